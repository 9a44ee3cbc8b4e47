//! What all benchmarks of one run share: the server, the report, and how much is to be done.

use std::path::PathBuf;

use super::cleanup::Folder;
use super::error::{Result, fail};
use super::report::Report;
use super::server::{Server, beside_us, knows_flag};

/// Where the server comes from.
#[derive(Debug)]
enum Source {
    Running(Server),
    Own {
        program: PathBuf,
        parent: Option<PathBuf>,
    },
}

/// A run.
#[derive(Debug)]
pub(crate) struct Session {
    source: Source,
    pub(crate) report: Report,
    /// Whether everything is to be done as little as possible, to see that it works.
    pub(crate) quick: bool,
}

/// A server for one benchmark: the one that runs, or one of our own with its folder.
#[derive(Debug)]
pub(crate) struct Lease {
    own: Option<(Server, Folder)>,
}

impl Session {
    /// On a server that runs.
    pub(crate) fn running(url: &str, token: Option<String>, quick: bool) -> Result<Self> {
        Ok(Self {
            source: Source::Running(Server::running(url, token)?),
            report: Report::new(quick),
            quick,
        })
    }

    /// On servers of our own, from this program or the one beside us, in folders in `parent`.
    pub(crate) fn own(
        program: Option<PathBuf>,
        parent: Option<PathBuf>,
        quick: bool,
    ) -> Result<Self> {
        let program = match program {
            Some(program) => program,
            None => beside_us()?,
        };
        Ok(Self {
            source: Source::Own { program, parent },
            report: Report::new(quick),
            quick,
        })
    }

    /// The server; one of our own is started with these arguments.
    pub(crate) fn lease(&self, arguments: &[&str]) -> Result<Lease> {
        let own = match &self.source {
            Source::Running(_) => None,
            Source::Own { program, parent } => {
                let folder = Folder::new(parent.as_deref())?;
                Some((Server::start(program, folder.path(), arguments)?, folder))
            }
        };
        Ok(Lease { own })
    }

    /// The server of a lease.
    pub(crate) fn server<'a>(&'a self, lease: &'a Lease) -> Result<&'a Server> {
        match (&lease.own, &self.source) {
            (Some((server, _)), _) | (None, Source::Running(server)) => Ok(server),
            (None, Source::Own { .. }) => fail("the server is gone"),
        }
    }

    /// Whether servers are started by us.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self.source, Source::Own { .. })
    }

    /// Whether a server of our own knows a flag of `serve`.
    pub(crate) fn knows_flag(&self, flag: &str) -> bool {
        match &self.source {
            Source::Own { program, .. } => knows_flag(program, flag),
            Source::Running(_) => false,
        }
    }

    /// As many as asked, or few in a smoke test.
    pub(crate) fn scaled(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick.min(full) } else { full }
    }
}

impl Lease {
    /// The server, to be stopped and started.
    pub(crate) fn own(&mut self) -> Result<&mut Server> {
        match &mut self.own {
            Some((server, _)) => Ok(server),
            None => fail("this needs a server of our own: leave out --url"),
        }
    }
}
