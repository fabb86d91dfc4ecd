//! Where running jobs of a user find each other, and where savepoints go by default: `--data-dir`, else
//! `$MILLRACE_DATA`, else `millrace` in the user's folder for data.

use std::path::{Path, PathBuf};

use millrace_core::{Error, Result};

use crate::files;
use crate::folders::{Folder, variable};

/// Which data dir a command uses.
#[derive(Debug, Clone, clap::Args)]
pub struct DataDir {
    /// Folder by which running jobs are found [default: $MILLRACE_DATA, $XDG_DATA_HOME/millrace or
    /// ~/.local/share/millrace]
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
}

impl DataDir {
    /// Whether somebody named it.
    pub fn is_named(&self) -> bool {
        self.named().is_some()
    }

    fn named(&self) -> Option<PathBuf> {
        self.data_dir.clone().or_else(|| variable("MILLRACE_DATA"))
    }

    /// The folder, as an absolute path; it need not be there.
    ///
    /// # Errors
    /// `CL0030` if nothing says where it is.
    pub fn folder(&self) -> Result<PathBuf> {
        let folder = self.named().or_else(|| Folder::Data.locate()).ok_or_else(|| {
            let message = "no data folder: neither --data-dir, MILLRACE_DATA, XDG_DATA_HOME nor HOME is set";
            Error::user("CL0030", message)
        })?;
        std::path::absolute(&folder).map_err(|error| files::failed("find", Path::new(&folder), &error))
    }
}
