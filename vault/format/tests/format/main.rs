//! The stored format against its document and its vectors, in one program.
//!
//! `samples` (`objects` and `records`) holds one marked value of every kind of object, `decoders` every decoder. `vectors` pins their bytes to the files in
//! `testdata/`, `document` reads FORMAT.md and decodes the same bytes by its tables alone, `properties` drives every
//! decoder with generated and damaged bytes.

mod decoders;
mod document;
mod negatives;
mod objects;
mod properties;
mod records;
mod samples;
mod schema;
mod vectors;
