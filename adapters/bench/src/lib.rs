//! The benches of the adapters, and the code that they share.
//!
//! All headline figures are ratios: an adapter and its baseline move the same bytes alternately, in one
//! program, and each round gives one ratio ([`measure`]). Servers run in child processes
//! ([`server_process`]), so that their processor time is separate from that of the clients. A bench gives
//! its adapter as a [`Subject`], as the plain sockets are ([`baseline`]), and runs the [`cases`].
//!
//! Tables go to standard output, JSON and plots to `target/bench-results`.

pub mod baseline;
pub mod cases;
pub mod competitors;
pub mod cpu;
pub mod epoll_baseline;
pub mod measure;
pub mod plot;
pub mod report;
pub mod server_process;
pub mod subject;
pub mod temp_files;
pub mod tls_baseline;

pub use subject::{End, Format, Job, Subject, on_threads};
