//! The sockets of running jobs: one per process, in a folder that only its user may enter.
//!
//! A socket is made under another name and renamed once it listens: one that refuses connections under its final name
//! belongs to a process that is gone (`kill -9`), and whoever meets it removes it. A lock keeps two processes from
//! claiming one run at the same time.
//!
//! The address of a socket holds 107 bytes. Longer paths are reached through `/proc/self/fd`, where there is one.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use millrace_core::{Error, Result};

use super::unusable;

/// Code of an error that says that there can be no socket.
pub(super) const UNUSABLE: &str = "AP0008";

/// Longest path of a socket, in bytes; the system has room for one more, a zero.
const PATH_BYTES_MAX: usize = 107;

const EXTENSION: &str = "sock";

/// The folder with the sockets of a data dir.
fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("run")
}

/// The socket of a run of this process. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    /// Until [`Socket::listener`].
    listener: Option<UnixListener>,
}

/// Does something with a path that is short enough for a socket's address.
fn with_short_path<T>(path: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() <= PATH_BYTES_MAX {
        return act(path);
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return act(path);
    };
    let folder = File::open(parent)?;
    let short = Path::new("/proc/self/fd")
        .join(folder.as_raw_fd().to_string())
        .join(name);
    if !short.parent().is_some_and(Path::is_dir) || short.as_os_str().len() > PATH_BYTES_MAX {
        let message = format!("the path of a socket has {PATH_BYTES_MAX} bytes at most, and there is no /proc");
        return Err(io::Error::new(ErrorKind::InvalidInput, message));
    }
    act(&short)
}

/// Connects to a socket; `None`: nobody listens, or it is gone.
pub(super) fn connect(path: &Path) -> io::Result<Option<UnixStream>> {
    match with_short_path(path, |path| UnixStream::connect(path)) {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Socket {
    /// Makes the socket of a run in a data dir, which is made if it is missing.
    ///
    /// # Errors
    /// `AP0007` if the run is running; `AP0008` if the folder cannot be used.
    pub(super) fn claim(data_dir: &Path, run: &str) -> Result<Socket> {
        let folder = folder(data_dir);
        let failed = |error: io::Error| {
            let (folder, why) = (folder.display(), error);
            unusable(format!("there can be no socket in `{folder}`: {why}"))
        };
        make_private(&folder).map_err(failed)?;
        let _lock = lock(&folder).map_err(failed)?;
        remove_stale(&folder).map_err(failed)?;
        let path = folder.join(format!("{run}.{EXTENSION}"));
        if path.exists() {
            let message = format!("run `{run}` is running already: `{}` answers", path.display());
            return Err(Error::user("AP0007", message));
        }
        let listener = listen(&folder, &path).map_err(failed)?;
        let listener = Some(listener);
        Ok(Socket { path, listener })
    }

    /// What accepts connections; once.
    pub(super) fn listener(&mut self) -> Result<UnixListener> {
        let listener = self.listener.take();
        listener.ok_or_else(|| Error::internal("a socket is served twice"))
    }

    /// A folder of the run that goes with the socket.
    pub(super) fn scratch(&self) -> PathBuf {
        scratch_of(&self.path)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next process that finds it.
        let _ = remove(&self.path);
    }
}

fn scratch_of(socket: &Path) -> PathBuf {
    socket.with_extension("work")
}

/// The folder first: as long as the socket is there somebody may find it.
fn remove(socket: &Path) -> io::Result<()> {
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    };
    gone(fs::remove_dir_all(scratch_of(socket)))?;
    gone(fs::remove_file(socket))
}

fn make_private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // It may have been there already.
    fs::set_permissions(folder, Permissions::from_mode(0o700))
}

/// Held as long as the file is open.
fn lock(folder: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    let file = options.open(folder.join("lock"))?;
    file.lock()?;
    Ok(file)
}

fn listen(folder: &Path, path: &Path) -> io::Result<UnixListener> {
    let unfinished = folder.join(format!("{}.new", std::process::id()));
    let _ = fs::remove_file(&unfinished);
    let listener = with_short_path(&unfinished, |path| UnixListener::bind(path))?;
    let shown =
        fs::set_permissions(&unfinished, Permissions::from_mode(0o600)).and_then(|()| fs::rename(&unfinished, path));
    if let Err(error) = shown {
        let _ = fs::remove_file(&unfinished);
        return Err(error);
    }
    Ok(listener)
}

/// The sockets in a data dir, in the order of their names: of jobs that run, and stale ones.
pub(super) fn sockets(data_dir: &Path) -> io::Result<Vec<PathBuf>> {
    sockets_in(&folder(data_dir))
}

fn sockets_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut sockets = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            sockets.push(path);
        }
    }
    sockets.sort();
    Ok(sockets)
}

/// Removes what processes have left that are gone.
pub(super) fn remove_stale_in(data_dir: &Path) -> io::Result<()> {
    let folder = folder(data_dir);
    let _lock = lock(&folder)?;
    remove_stale(&folder)
}

/// Under the lock, so that nobody claims a socket meanwhile that is just being removed.
fn remove_stale(folder: &Path) -> io::Result<()> {
    for socket in sockets_in(folder)? {
        // One that cannot be connected to for another reason may well be in use.
        if matches!(connect(&socket), Ok(None)) {
            remove(&socket)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_socket_is_private_and_goes_with_its_owner() {
        let place = tempfile::tempdir().unwrap();
        let socket = Socket::claim(place.path(), "run-1").unwrap();
        let path = place.path().join("run/run-1.sock");
        assert_eq!((mode(&path), mode(&place.path().join("run"))), (0o600, 0o700));
        assert!(connect(&path).unwrap().is_some());
        fs::create_dir(socket.scratch()).unwrap();
        let scratch = socket.scratch();
        drop(socket);
        assert!(!path.exists() && !scratch.exists());
        assert!(connect(&path).unwrap().is_none());
    }

    #[test]
    fn a_run_that_runs_is_refused_and_a_stale_one_replaced() {
        let place = tempfile::tempdir().unwrap();
        let socket = Socket::claim(place.path(), "run-1").unwrap();
        let other = Socket::claim(place.path(), "run-2").unwrap();
        assert_eq!(Socket::claim(place.path(), "run-1").unwrap_err().code(), "AP0007");
        // As after `kill -9`: the file is there, and nobody listens.
        let path = socket.path.clone();
        fs::create_dir(socket.scratch()).unwrap();
        let mut killed = std::mem::ManuallyDrop::new(socket);
        drop(killed.listener.take());
        assert!(path.exists() && connect(&path).unwrap().is_none());
        let again = Socket::claim(place.path(), "run-1").unwrap();
        assert!(connect(&path).unwrap().is_some());
        assert!(!again.scratch().exists());
        drop(other);
        assert_eq!(sockets(place.path()).unwrap(), [path]);
    }

    #[test]
    fn a_path_may_be_longer_than_an_address() {
        let place = tempfile::tempdir().unwrap();
        let deep = place.path().join("a".repeat(100)).join("b".repeat(100));
        let _socket = Socket::claim(&deep, "run-1").unwrap();
        let found = sockets(&deep).unwrap();
        assert!(connect(&found[0]).unwrap().is_some());
    }

    #[test]
    fn a_folder_that_cannot_be_used_is_named() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("file"), "").unwrap();
        let error = Socket::claim(&place.path().join("file"), "run-1").unwrap_err();
        assert_eq!(error.code(), UNUSABLE);
        assert!(error.to_string().contains("file/run"), "{error}");
    }

    #[test]
    fn many_may_claim_at_once() {
        let place = tempfile::tempdir().unwrap();
        let claimed = std::thread::scope(|scope| {
            let claim = |run: u32| {
                let place = place.path();
                scope.spawn(move || Socket::claim(place, &format!("run-{}", run / 2)).ok())
            };
            let threads: Vec<_> = (0..32).map(claim).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect::<Vec<_>>()
        });
        assert_eq!(claimed.iter().flatten().count(), 16, "each run once");
        assert_eq!(sockets(place.path()).unwrap().len(), 16);
    }
}
