//! `recorder dump`.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use super::{
    Exit, Failure,
    output::{directory_and_name, to_stdout},
};
use crate::{
    clock::parse_duration_ns,
    config::SOCKET,
    control::{Client, ClientError, DumpAnswer, DumpOrder},
    snapshot::{Target, WriteError},
};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The control socket
    #[arg(long, env = "RECORDER_SOCKET", hide_env = true, default_value = SOCKET)]
    socket: PathBuf,
    /// Why: kept in the file
    #[arg(long, default_value = "")]
    reason: String,
    /// Only so far back, such as 30s
    #[arg(long, value_parser = parse_duration_ns)]
    since: Option<u64>,
    /// Go on recording for so long first, such as 5s
    #[arg(long, value_parser = parse_duration_ns)]
    post: Option<u64>,
    /// Be durable within this time, such as 2s: what is most precious and newest is
    /// written first, and what there is no time for is left out
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ns)]
    deadline: Option<u64>,
    /// Mark it to stay: it is never removed to make room
    #[arg(long)]
    keep: bool,
    /// Copy the snapshot to FILE with your own rights, or - for standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace FILE if it is there
    #[arg(long, requires = "output")]
    force: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    // Said before a snapshot is taken for nothing; it is checked again at the end.
    let there = arguments.output.as_ref().filter(|output| output.as_os_str() != "-");
    if let Some(output) = there.filter(|output| !arguments.force && output.exists()) {
        return Err(Failure::new(Exit::CannotCreate, WriteError::Exists(output.clone())));
    }
    let order = DumpOrder {
        reason: arguments.reason.clone(),
        since_ns: arguments.since,
        post_ns: arguments.post,
        keep: arguments.keep,
        deadline_ns: arguments.deadline,
        ..DumpOrder::default()
    };
    let path = with_client(&arguments.socket, async |client| {
        let answer = client.dump(&order).await.map_err(client_failure)?;
        match &arguments.output {
            None => Ok(Some(PathBuf::from(&answer.path))),
            Some(output) if output.as_os_str() == "-" => {
                let mut out = io::stdout().lock();
                let fetched = client
                    .fetch(&answer.name, &mut |bytes| out.write_all(bytes))
                    .await
                    .map_err(client_failure)?;
                match fetched.and_then(|()| out.flush()) {
                    Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                        Err(Failure::new(Exit::Failed, format!("standard output: {error}")))
                    }
                    _ => Ok(None),
                }
            }
            Some(output) => copy(client, &answer, output, arguments.force).await.map(Some),
        }
    })??;
    if let Some(path) = path {
        to_stdout(|out| writeln!(out, "{}", path.display()))?;
    }
    Ok(())
}

/// Copies a finished snapshot; like every snapshot it is complete and durable
/// under its name, or absent.
async fn copy(
    client: &mut Client,
    answer: &DumpAnswer,
    output: &Path,
    replace: bool,
) -> Result<PathBuf, Failure> {
    let failed = |error: WriteError| Failure::new(Exit::CannotCreate, error);
    let (directory, name) = directory_and_name(output)?;
    let target = Target::create(directory).map_err(failed)?;
    let mut bytes = 0;
    let fetched = client
        .fetch(&answer.name, &mut |piece| {
            bytes += piece.len() as u64;
            let mut file = target.file();
            file.write_all(piece)
        })
        .await
        .map_err(client_failure)?;
    fetched.map_err(|error| failed(WriteError::File(output.to_path_buf(), error)))?;
    if bytes != answer.bytes {
        let (path, whole) = (&answer.path, answer.bytes);
        return Err(Failure::new(
            Exit::Failed,
            format!("only {bytes} of {whole} bytes of {path} arrived: copy the file itself"),
        ));
    }
    target.finish(name, replace).map_err(failed)
}

/// Connects to the daemon and runs `ask`.
pub(super) fn with_client<T>(
    socket: &Path,
    ask: impl AsyncFnOnce(&mut Client) -> T,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start: {error}")))?;
    runtime.block_on(async {
        let mut client = Client::connect(socket).await.map_err(client_failure)?;
        Ok(ask(&mut client).await)
    })
}

/// The exit code of an answer.
pub(super) fn client_failure(error: ClientError) -> Failure {
    let exit = match &error {
        ClientError::NoDaemon(..) => Exit::NoDaemon,
        ClientError::NotPermitted(_) => Exit::NotPermitted,
        ClientError::Refused(problem) => match problem.status {
            429 | 503 => Exit::TryLater,
            409 | 507 => Exit::CannotCreate,
            401 | 403 => Exit::NotPermitted,
            400 | 413 | 422 => Exit::Usage,
            _ => Exit::Failed,
        },
        ClientError::Protocol(_) => Exit::Failed,
    };
    Failure::new(exit, error)
}
