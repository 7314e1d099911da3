//! The source `command`: what a program prints, or standard input, as one stream of
//! bytes; and the way back into a file.
//!
//! What always holds: there is a point only if all of the stream came and the
//! command ended well; how it ended otherwise, and its last words, are in the error.
//! A restored stream is the recorded one by its hash, or it is removed.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags};
use vault_format::body::ChunkKind;
use vault_format::point::{PointRoot, SourceKind, StreamRoot};
use vault_ops::source::{PointReader, Reading, Sink, Source, StreamHash};
use vault_ops::{OpsError, Result};

use crate::descent::open_beneath;
use crate::path_text::path_text;
use crate::target::{io_error, open_empty};

/// Lines of a command's complaints that are kept.
const LAST_LINES: usize = 5;
const LINE_BYTES_MAX: u64 = 1_000;
/// A command that ended may have left others behind that hold its complaints open.
const LAST_WORDS_WAIT: Duration = Duration::from_secs(2);
const NAME_BYTES_MAX: usize = 255;

/// A stream of bytes as a source.
pub struct StreamSource {
    name: String,
    file_name: String,
    from: From,
}

enum From {
    Command(Vec<String>),
    /// Something that can be read once.
    Reader(Option<Box<dyn Read + Send>>),
}

impl StreamSource {
    /// A source called `name` of what the program `argv[0]` prints with the other
    /// arguments; no shell is between. A restore makes a file called `file_name` of
    /// it, which is refused if no file can be called so.
    pub fn of_command(name: impl Into<String>, file_name: impl Into<String>, argv: Vec<String>) -> Result<Self> {
        if argv.is_empty() {
            return Err(OpsError::Refused { what: "a command source needs a program".to_owned() });
        }
        Self::new(name.into(), file_name.into(), From::Command(argv))
    }

    /// A source called `name` of all that `from` yields.
    pub fn of_reader(
        name: impl Into<String>,
        file_name: impl Into<String>,
        from: Box<dyn Read + Send>,
    ) -> Result<Self> {
        Self::new(name.into(), file_name.into(), From::Reader(Some(from)))
    }

    fn new(name: String, file_name: String, from: From) -> Result<Self> {
        if !is_file_name(&file_name) {
            return Err(OpsError::Refused { what: format!("{file_name:?} is not the name of a file") });
        }
        Ok(Self { name, file_name, from })
    }

    fn failed(&self, why: impl Into<String>) -> OpsError {
        OpsError::Source { name: self.name.clone(), why: why.into() }
    }

    fn store(&self, sink: &mut dyn Sink, from: &mut dyn Read) -> Result<Reading> {
        let mut stream = Hashed { from, hash: StreamHash::default() };
        let content = sink.write(ChunkKind::Data, &mut stream)?;
        let root = StreamRoot { content, hash: stream.hash.finish(), name: self.file_name.clone() };
        Ok(Reading { root: PointRoot::Stream(root), items: 1, changed: 1, unreadable: Vec::new() })
    }

    fn run(&self, argv: &[String], sink: &mut dyn Sink) -> Result<Reading> {
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = command.spawn();
        let mut child = started.map_err(|error| {
            self.failed(format!("its command {} could not be started: {error}. No point was made", argv[0]))
        })?;
        let words = LastWords::of(&mut child);
        let mut out = child.stdout.take().ok_or_else(|| self.failed("its command has no output"))?;
        let stored = self.store(sink, &mut out);
        drop(out);
        if stored.is_err() {
            // Nobody takes what it goes on to print. It may have ended by itself.
            let _ = child.kill();
        }
        let ended = child.wait().map_err(|error| io_error(format!("waiting for {}", argv[0]), error))?;
        let reading = stored?;
        if ended.success() {
            return Ok(reading);
        }
        let (how, words) = (how_it_ended(ended), words.take());
        Err(self.failed(format!("its command {} {how}, so no point was made{words}", argv[0])))
    }
}

impl Source for StreamSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Command
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn read(&mut self, sink: &mut dyn Sink) -> Result<Reading> {
        match &mut self.from {
            From::Command(argv) => {
                let argv = argv.clone();
                self.run(&argv, sink)
            }
            From::Reader(reader) => {
                let Some(mut reader) = reader.take() else {
                    return Err(self.failed(
                        "it was read before and cannot be read again, so no point was made. Run the same command again",
                    ));
                };
                self.store(sink, &mut reader)
            }
        }
    }
}

struct Hashed<'a> {
    from: &'a mut dyn Read,
    hash: StreamHash,
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.hash.add(&buffer[..count]);
        Ok(count)
    }
}

/// The last lines a child writes to its standard error, read on a thread: a child
/// whose complaints nobody takes stands still.
struct LastWords {
    lines: Arc<Mutex<VecDeque<String>>>,
    ended: Receiver<()>,
}

impl LastWords {
    fn of(child: &mut Child) -> Self {
        let lines: Arc<Mutex<VecDeque<String>>> = Arc::default();
        let (end, ended) = channel();
        if let Some(from) = child.stderr.take() {
            let lines = Arc::clone(&lines);
            std::thread::spawn(move || {
                let mut from = BufReader::new(from);
                let mut line = Vec::new();
                while (&mut from).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                    let text = path_text(Path::new(String::from_utf8_lossy(&line).trim_end()));
                    line.clear();
                    let mut lines = lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    lines.truncate(LAST_LINES - 1);
                    lines.push_front(text);
                }
                drop(end);
            });
        }
        Self { lines, ended }
    }

    fn take(&self) -> String {
        // The thread ends by dropping its side; if it does not, what came is what there is.
        let _ = self.ended.recv_timeout(LAST_WORDS_WAIT);
        let lines = self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let lines: Vec<&str> = lines.iter().rev().map(String::as_str).filter(|line| !line.is_empty()).collect();
        if lines.is_empty() { String::new() } else { format!(". Its last words: {}", lines.join(" | ")) }
    }
}

fn how_it_ended(ended: ExitStatus) -> String {
    match (ended.code(), ended.signal()) {
        (Some(code), _) => format!("ended with code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "did not end well".to_owned(),
    }
}

/// One component of a path, and nothing that means another directory.
fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name != "." && name != ".." && !name.contains(['/', '\0'])
}

/// Writes a stream to `to`. An error at its end means that what was written is not
/// what was recorded.
pub async fn write_stream(point: &dyn PointReader, root: &StreamRoot, to: &mut (dyn Write + Send)) -> Result<()> {
    let mut writer = HashedWriter { to, hash: StreamHash::default() };
    point.read(&root.content, &mut writer).await?;
    if writer.hash.finish() == root.hash {
        return Ok(());
    }
    Err(OpsError::corrupt("the point's stream", "its bytes do not have the recorded hash; do not use them"))
}

/// Writes a stream into a file of its recorded name in the directory `to`, which is
/// created, or empty. Returns its bytes.
pub async fn restore_stream(point: &dyn PointReader, root: &StreamRoot, to: &Path) -> Result<u64> {
    if !is_file_name(&root.name) {
        let what = format!("its file name {:?} is none", root.name);
        return Err(OpsError::corrupt("the point's stream", what));
    }
    let target = open_empty(to)?;
    let what = || format!("writing {}", path_text(&to.join(&root.name)));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let mode = Mode::RUSR | Mode::WUSR;
    let file = open_beneath(std::os::fd::AsFd::as_fd(&target), root.name.as_bytes(), flags, mode);
    let mut file = File::from(file.map_err(|error| io_error(what(), error))?);
    let written = match write_stream(point, root, &mut file).await {
        Ok(()) => {
            file.sync_all().and_then(|()| Ok(rustix::fs::fsync(&target)?)).map_err(|error| io_error(what(), error))
        }
        // Nothing but the file is written to or read here.
        Err(OpsError::Io { error, .. }) => Err(io_error(what(), error)),
        Err(error) => Err(error),
    };
    if written.is_err() {
        // Half a stream under its whole name would be taken for it; the error stands either way.
        let _ = rustix::fs::unlinkat(&target, &root.name, AtFlags::empty());
    }
    written.map(|()| root.content.bytes)
}

struct HashedWriter<'a> {
    to: &'a mut (dyn Write + Send),
    hash: StreamHash,
}

impl Write for HashedWriter<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.to.write(buffer)?;
        self.hash.add(&buffer[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
