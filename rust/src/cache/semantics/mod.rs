pub mod conditional;
pub mod date;
pub mod directives;
pub mod fields;
pub mod freshness;
pub mod invalidate;
pub mod key;
pub mod range;
pub mod reason;
pub mod request;
pub mod reuse;
pub mod rules;
pub mod status;
pub mod storable;
pub mod targeted;
pub mod update;
pub mod vary;

#[cfg(test)]
mod dice;
