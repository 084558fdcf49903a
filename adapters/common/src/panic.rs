//! Panics of the application, which must not cost a thread or a task of an adapter.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs code of the application. `None` if it panicked; the panic hook has reported that.
///
/// ```
/// assert_eq!(dataserver_common::catch_application_panic(|| 5), Some(5));
/// assert_eq!(dataserver_common::catch_application_panic(|| panic!("as applications do")), None::<u8>);
/// ```
pub fn catch_application_panic<T>(run: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(value) => Some(value),
        Err(payload) => {
            drop_panic_payload(payload);
            None
        }
    }
}

/// Drops a value of the application. A panic of its `Drop` ends here.
///
/// ```
/// struct Bomb;
///
/// impl Drop for Bomb {
///     fn drop(&mut self) {
///         panic!("as the application does");
///     }
/// }
///
/// dataserver_common::drop_application_value(Bomb);
/// ```
pub fn drop_application_value<T>(value: T) {
    catch_application_panic(|| drop(value));
}

/// Drops what a panic carried, which may panic again.
///
/// ```
/// let panicked = std::panic::catch_unwind(|| panic!("as applications do"));
/// dataserver_common::drop_panic_payload(panicked.unwrap_err());
/// ```
pub fn drop_panic_payload(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(again);
    }
}
