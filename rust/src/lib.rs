//! The data plane of polycdn, loaded by Python as `polycdn._native`.

mod py;
