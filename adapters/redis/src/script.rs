//! The scripts. Each touches one key, so that it works in a Cluster, and takes effect as a whole or not at all.

use redis::{ErrorKind, ServerErrorKind, Value, cmd};

use crate::batch::Batches;
use crate::error::Error;

/// A script, and the digest by which Redis knows it.
pub(crate) struct Script {
    text: &'static str,
    digest: String,
}

impl Script {
    fn new(text: &'static str) -> Self {
        Self { text, digest: redis::Script::new(text).get_hash().to_owned() }
    }

    /// Runs it on this key. A server that does not know the script, such as one that has been restarted, has
    /// done nothing, and is given the text.
    pub(crate) fn run(
        &self,
        batches: &Batches,
        key: &str,
        arguments: &[&[u8]],
    ) -> Result<Value, Error> {
        let run = |command: &str, script: &str| {
            let mut command = cmd(command);
            batches.call(command.arg(script).arg(1).arg(key).arg(arguments))
        };
        match run("EVALSHA", &self.digest) {
            Err(Error::Redis(error))
                if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) =>
            {
                run("EVAL", self.text)
            }
            answer => answer,
        }
    }
}

/// All of them.
pub(crate) struct Scripts {
    pub(crate) issue: Script,
    pub(crate) show: Script,
    pub(crate) claim: Script,
    pub(crate) renew: Script,
    pub(crate) finish: Script,
}

impl Scripts {
    pub(crate) fn new() -> Self {
        Self {
            issue: Script::new(include_str!("scripts/issue.lua")),
            show: Script::new(include_str!("scripts/show.lua")),
            claim: Script::new(include_str!("scripts/claim.lua")),
            renew: Script::new(include_str!("scripts/renew.lua")),
            finish: Script::new(include_str!("scripts/finish.lua")),
        }
    }
}
