pub mod date;
pub mod directives;
pub mod fields;
pub mod freshness;
pub mod request;
pub mod rules;
pub mod targeted;

#[cfg(test)]
mod dice;
