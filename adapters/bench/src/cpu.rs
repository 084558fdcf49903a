//! The processor time of a process.

use std::fs;
use std::io;
use std::ops::{Add, Sub};

/// The unit of proc(5) is always 1/100 s.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of processor time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// In user mode.
    pub user: f64,
    /// In the kernel.
    pub system: f64,
}

impl Cpu {
    /// The processor time that all threads of a process have used, from proc(5).
    ///
    /// # Errors
    /// Returns an error if there is no such process.
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name, in parentheses, may contain spaces. After it come state (3), …, utime (14), stime.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
        let mut seconds = || {
            let ticks = fields.next().and_then(|field| field.parse::<f64>().ok());
            ticks.map(|ticks| ticks / TICKS_PER_SECOND).ok_or(io::ErrorKind::InvalidData)
        };
        Ok(Self { user: seconds()?, system: seconds()? })
    }

    /// User and system together.
    pub fn total(&self) -> f64 {
        self.user + self.system
    }
}

impl Add for Cpu {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { user: self.user + other.user, system: self.system + other.system }
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { user: self.user - other.user, system: self.system - other.system }
    }
}
