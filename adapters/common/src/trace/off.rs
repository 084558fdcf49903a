//! Without the feature `tracing`, nothing is done here, and nothing is stored. See `on.rs`.

use std::future::Future;
use std::marker::PhantomData;
use std::net::SocketAddr;

use dataserver_core::StartPacket;

use crate::error::Error;
use crate::receipt::Receipt;
use crate::ticket_store::ClaimError;

/// The span of a connection of a server.
///
/// ```
/// let trace = dataserver_common::Trace::accepted(Some(([127, 0, 0, 1], 8089).into()));
/// assert_eq!(size_of_val(&trace), 0); // without the feature `tracing`
/// ```
#[derive(Clone, Debug)]
pub struct Trace;

/// The events of one object of a connection.
///
/// ```
/// let trace = dataserver_common::Trace::accepted(None);
/// assert_eq!(size_of_val(&trace.object()), 0); // without the feature `tracing`
/// ```
#[derive(Debug)]
pub struct ObjectTrace<'a>(PhantomData<&'a Trace>);

impl Trace {
    /// A server has accepted a connection.
    ///
    /// ```
    /// let trace = dataserver_common::Trace::accepted(None);
    /// ```
    #[inline]
    pub fn accepted(_peer: Option<SocketAddr>) -> Self {
        Self
    }

    /// The server waits for an object.
    ///
    /// ```
    /// let trace = dataserver_common::Trace::accepted(None);
    /// let object = trace.object();
    /// ```
    #[inline]
    pub fn object(&self) -> ObjectTrace<'_> {
        ObjectTrace(PhantomData)
    }

    /// Runs a part of the connection within its span.
    ///
    /// ```
    /// let trace = dataserver_common::Trace::accepted(None);
    /// assert_eq!(trace.within(|| 5), 5);
    /// ```
    #[inline]
    pub fn within<T>(&self, run: impl FnOnce() -> T) -> T {
        run()
    }

    /// Polls a part of the connection within its span.
    ///
    /// ```
    /// let trace = dataserver_common::Trace::accepted(None);
    /// let future = trace.instrument(async { 5 });
    /// ```
    #[inline]
    pub fn instrument<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        future
    }
}

impl ObjectTrace<'_> {
    /// The start packet has been accepted.
    ///
    /// ```
    /// # use dataserver_common::Trace;
    /// # use dataserver_core::{Key, StartPacket};
    /// # let trace = Trace::accepted(None);
    /// trace.object().claimed(StartPacket::put(Key::from_name("report")));
    /// ```
    #[inline]
    pub fn claimed(&mut self, _packet: StartPacket) {}

    /// The start packet has been refused.
    ///
    /// ```
    /// # use dataserver_common::Trace;
    /// # use dataserver_core::{Key, Refusal, StartPacket};
    /// # let trace = Trace::accepted(None);
    /// let packet = StartPacket::put(Key::from_name("report"));
    /// trace.object().refused(packet, &Refusal::NotRegistered.into());
    /// ```
    #[inline]
    pub fn refused(&mut self, _packet: StartPacket, _error: &ClaimError) {}

    /// The object is done, with this outcome. `moved` is how many bytes of it have moved, if that is known.
    ///
    /// ```
    /// # use dataserver_common::{Error, Trace};
    /// # let trace = Trace::accepted(None);
    /// let outcome = Err(Error::aborted(None, None, "the server is stopping", None));
    /// trace.object().done(&outcome, Some(5));
    /// ```
    #[inline]
    pub fn done(self, _outcome: &Result<Receipt, Error>, _moved: Option<u64>) {}
}

/// A server has met an error that is not that of a connection, such as that of its listener. Returns the
/// error.
///
/// ```
/// use dataserver_common::{Error, trace_server_error};
///
/// let error = trace_server_error(Error::listen(std::io::ErrorKind::InvalidInput.into()));
/// assert!(error.to_string().starts_with("cannot listen"));
/// ```
#[inline]
#[must_use]
pub fn trace_server_error(error: Error) -> Error {
    error
}
