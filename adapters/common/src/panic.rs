//! Panics of the application, which must not cost a thread or a task of an adapter.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Drops what the application gave. A panic of its `Drop` ends here; the panic hook has told it.
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
    _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
}
