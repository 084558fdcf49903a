//! Where an object comes from: a file or standard input.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dataserver_common::object::regular_len;
use dataserver_std::{ObjectWriter, Receipt};

use crate::arguments::is_standard_stream;
use crate::console::Console;
use crate::descriptors;
use crate::failure::Failure;
use crate::stream::Stream;

#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
    file: File,
    /// Where the object begins, in a file that can be read again.
    start: Option<u64>,
    /// How many bytes of a stream have been read.
    read: Arc<AtomicU64>,
}

impl Source {
    /// Opens a file, or standard input for `-`.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let open = || match is_standard_stream(path) {
            true => descriptors::standard_input(),
            false => File::open(path),
        };
        let prepare = || {
            let mut file = open()?;
            let metadata = file.metadata()?;
            if metadata.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            let start = if metadata.is_file() { Some(file.stream_position()?) } else { None };
            Ok((file, start))
        };
        let path = descriptors::name(path, "standard input");
        let (file, start) = prepare().map_err(|error| Failure::file(&path, &error))?;
        Ok(Self { path, file, start, read: Arc::default() })
    }

    /// Whether the object can be sent again, from its beginning.
    pub(crate) fn rewind(&self) -> bool {
        match self.start {
            Some(start) => (&self.file).seek(SeekFrom::Start(start)).is_ok(),
            None => self.read.load(Ordering::Relaxed) == 0,
        }
    }

    /// Whether the object can be sent only once.
    pub(crate) fn is_stream(&self) -> bool {
        self.start.is_none()
    }

    /// Sends the object, and waits for the receipt.
    pub(crate) fn send(
        &self,
        object: ObjectWriter,
        rate: Option<NonZeroU64>,
        console: &Arc<Console>,
    ) -> Result<Receipt, Failure> {
        let declared = object.declared_size().bytes();
        let sent = match (self.start, rate) {
            (Some(start), None) => {
                let len = declared.or_else(|| regular_len(&self.file));
                let cursor =
                    self.file.try_clone().map_err(|error| Failure::file(&self.path, &error))?;
                let _watch = console.watch(len, move || position_since(&cursor, start));
                object.send_file(&self.file)
            }
            _ => {
                let read = Arc::clone(&self.read);
                let _watch = console.watch(declared, move || read.load(Ordering::Relaxed));
                // Of a file that grows, as much as it has now. Files below `/proc` have no length.
                let len = regular_len(&self.file).filter(|len| *len > 0).unwrap_or(u64::MAX);
                object.send_reader(Stream::new(&self.file, rate, &self.read).take(len))
            }
        };
        Ok(sent?)
    }
}

/// How far the cursor of a file is behind the beginning of its object.
pub(crate) fn position_since(mut file: &File, start: u64) -> u64 {
    file.stream_position().unwrap_or(start).saturating_sub(start)
}
