//! The socket of `control`: bound with its mode before anybody can find it, and its connections, line by line.

use crate::control::{Control, refused};
use crate::error::{EngineError, Refusal};
use crate::handover;
use crate::runtime::Role;
use std::cell::{Cell, RefCell};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// The longest line read or written, without its end.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;
const CONNECTIONS_MAX: usize = 64;

/// The control socket before anybody can find it.
pub struct Hidden<'a> {
    listener: StdUnixListener,
    temporary: PathBuf,
    path: &'a Path,
}

/// A listening socket of mode 0600; it gets its name with `show`.
pub fn bind(path: &Path) -> Result<Hidden<'_>, EngineError> {
    // Short, since the whole path of a socket has at most 107 bytes.
    let temporary = path.with_file_name(format!(".{}", std::process::id()));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed_at(path)(error)),
        _ => {}
    }
    let listener = StdUnixListener::bind(&temporary).map_err(failed_at(path))?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600)).map_err(failed_at(path))?;
    listener.set_nonblocking(true).map_err(failed_at(path))?;
    Ok(Hidden { listener, temporary, path })
}

impl Hidden<'_> {
    /// Puts it in the place of whatever lay there.
    pub fn show(self) -> Result<StdUnixListener, EngineError> {
        fs::rename(&self.temporary, self.path).map_err(failed_at(self.path))?;
        Ok(self.listener)
    }
}

fn failed_at(path: &Path) -> impl Fn(io::Error) -> EngineError {
    move |error| EngineError::system(format!("control socket {}", path.display()), error)
}

/// Takes the socket away after the end; the engine holds its folder's lock until then.
pub fn unbind(path: &Path) {
    // It may be gone already: then it is as wanted.
    let _ = fs::remove_file(path);
}

/// Connections to the socket: how many are open, and the number of the next one.
#[derive(Default)]
pub struct Connections {
    open: Cell<usize>,
    next: Cell<u64>,
}

/// Serves a connection that came, in a task of its own.
pub async fn accept<R: Role>(
    accepted: io::Result<(UnixStream, tokio::net::unix::SocketAddr)>,
    control: &Rc<RefCell<Control<R>>>,
    connections: &Rc<Connections>,
) {
    let Ok((stream, _)) = accepted else {
        // No file descriptors left: wait for one rather than spin.
        tokio::time::sleep(Duration::from_millis(100)).await;
        return;
    };
    let (control, connections) = (Rc::clone(control), Rc::clone(connections));
    let number = connections.next.replace(connections.next.get() + 1);
    tokio::task::spawn_local(async move {
        connections.open.set(connections.open.get() + 1);
        let is_one_too_many = connections.open.get() > CONNECTIONS_MAX;
        // How a connection ended is the peer's matter; the next one starts afresh.
        let _ = serve_connection(stream, &control, number, is_one_too_many).await;
        connections.open.set(connections.open.get() - 1);
        control.borrow_mut().left(number);
    });
}

async fn serve_connection<R: Role>(
    stream: UnixStream,
    control: &Rc<RefCell<Control<R>>>,
    number: u64,
    is_one_too_many: bool,
) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    if is_one_too_many {
        let refusal = Refusal::later(format!("more than {CONNECTIONS_MAX} connections"));
        return write_line(&mut writer, refused(&refusal)).await;
    }
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = LINE_BYTES_MAX as u64 + 1;
        (&mut reader).take(limit).read_until(b'\n', &mut line).await?;
        match line.pop() {
            None => return Ok(()),
            Some(b'\n') => {}
            Some(_) if line.len() < LINE_BYTES_MAX => return Ok(()),
            Some(_) => {
                let refusal = Refusal::never(format!("a line of more than {LINE_BYTES_MAX} bytes"));
                return write_line(&mut writer, refused(&refusal)).await;
            }
        }
        let reply = control.borrow_mut().answer(&line, number);
        if reply.lets_go {
            let role = control.borrow().role();
            role.let_go().await;
        }
        if reply.fds.is_empty() {
            write_line(&mut writer, reply.line).await?;
            continue;
        }
        let fds: Vec<BorrowedFd<'_>> = reply.fds.iter().map(AsFd::as_fd).collect();
        let sent = handover::send(writer.as_ref(), reply.line.as_bytes(), &fds).await?;
        write_line(&mut writer, reply.line.get(sent..).unwrap_or_default().to_owned()).await?;
    }
}

async fn write_line(writer: &mut (impl AsyncWriteExt + Unpin), mut line: String) -> io::Result<()> {
    line.push('\n');
    writer.write_all(line.as_bytes()).await
}
