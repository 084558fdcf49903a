//! A value that comes back when its borrower drops it.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// A value in use: by a handler, to which it was lent, or by a client, which owns it. When a handler
/// drops it, the lender has it again.
///
/// ```
/// use dataserver_common::Lent;
///
/// let (lent, home) = Lent::new("driver");
/// assert_eq!(*lent, "driver");
/// assert_eq!(home.take(), None);
/// drop(lent);
/// assert_eq!(home.take(), Some("driver"));
/// ```
#[derive(Debug)]
pub struct Lent<T> {
    /// `None` only while it is dropped.
    value: Option<T>,
    home: Option<Home<T>>,
    /// Whether the lender still wants it. If not, it is dropped.
    is_wanted: fn(&T) -> bool,
}

/// Where a lent value comes back to.
#[derive(Debug)]
pub struct Home<T>(Arc<Mutex<Option<T>>>);

impl<T> Lent<T> {
    /// Lends a value.
    pub fn new(value: T) -> (Self, Home<T>) {
        Self::while_wanted(value, |_| true)
    }

    /// Lends a value that comes back only if it is wanted then.
    pub fn while_wanted(value: T, is_wanted: fn(&T) -> bool) -> (Self, Home<T>) {
        let home = Arc::new(Mutex::new(None));
        let lent = Self { value: Some(value), home: Some(Home(Arc::clone(&home))), is_wanted };
        (lent, Home(home))
    }

    /// A value that has no lender: it is dropped with this.
    pub fn owned(value: T) -> Self {
        Self { value: Some(value), home: None, is_wanted: |_| false }
    }
}

impl<T> Home<T> {
    /// The value, once its borrower has dropped it.
    pub fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<T> Deref for Lent<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("it is here until it is dropped")
    }
}

impl<T> DerefMut for Lent<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("it is here until it is dropped")
    }
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        if let Some(Home(home)) = &self.home {
            let value = self.value.take().filter(self.is_wanted);
            *home.lock().unwrap_or_else(PoisonError::into_inner) = value;
        }
    }
}
