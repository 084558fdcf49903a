//! What the benches of the adapters share.
//!
//! Every figure that counts is a ratio: an adapter and its baseline move the same bytes in turn, in
//! one program, and each round gives one ratio ([`measure`]). Servers run in processes of their own
//! ([`serving`]), so that their processor time can be told from the clients'. A bench gives each
//! adapter as a [`Contender`], as the bare sockets are ([`bare`]), and then asks for the [`rows`].
//!
//! Tables go to standard output, JSON and plots to `target/bench-results`.

pub mod bare;
pub mod contender;
pub mod cpu;
pub mod measure;
pub mod peers;
pub mod plot;
pub mod ready;
pub mod report;
pub mod rows;
pub mod scratch;
pub mod serving;

pub use contender::{Contender, End, Job};
