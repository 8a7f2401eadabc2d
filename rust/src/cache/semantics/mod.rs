pub mod date;
pub mod directives;
pub mod fields;
pub mod targeted;

#[cfg(test)]
mod dice;
