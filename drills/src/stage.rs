//! The folder the demo plays in: commands run as a person would type them, and
//! losses done to what they made.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kernel_client::{Client, Endpoint};
use serde_json::Value;

/// How long any wait may last.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The folder the demo plays in, and the program it runs.
pub(crate) struct Stage {
    pub(crate) program: PathBuf,
    pub(crate) dir: PathBuf,
    pub(crate) temporary: bool,
}

pub(crate) struct Node {
    pub(crate) process: Process,
    pub(crate) client: Client,
    pub(crate) address: String,
}

impl Stage {
    pub(crate) fn new(program: &Path, dir: Option<PathBuf>) -> Result<Self> {
        let temporary = dir.is_none();
        let dir = dir.unwrap_or_else(|| std::env::temp_dir().join(format!("holdfast-demo-{}", std::process::id())));
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        ensure!(
            fs::read_dir(&dir)?.next().is_none(),
            "{} is not empty; nothing was changed. Name a new folder with --dir",
            dir.display()
        );
        let dir = fs::canonicalize(&dir)?;
        Ok(Self { program: program.to_owned(), dir, temporary })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(self.path("holdfast.toml")).args(arguments);
        command
    }

    /// Runs a command to its end, showing it and what it prints.
    pub(crate) fn holdfast(&self, say: &impl Fn(&str), arguments: &[&str]) -> Result<()> {
        let (code, output) = self.try_holdfast(say, arguments)?;
        ensure!(code == 0, "holdfast {} ended with {code}:\n{output}", arguments.join(" "));
        Ok(())
    }

    pub(crate) fn try_holdfast(&self, say: &impl Fn(&str), arguments: &[&str]) -> Result<(i32, String)> {
        say(&format!("   $ holdfast {}", arguments.join(" ").replace(&self.text(""), "")));
        let output = self.command(arguments).stdin(Stdio::null()).output().context("starting holdfast")?;
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        for line in text.lines() {
            say(&format!("     {}", line.replace(&self.text(""), "")));
        }
        Ok((output.status.code().unwrap_or(-1), text))
    }

    /// Starts a command that stays, its output in a file.
    pub(crate) fn start(&self, arguments: &[&str], log: &str, say: &impl Fn(&str)) -> Result<Process> {
        say(&format!("   $ holdfast {} &", arguments.join(" ").replace(&self.text(""), "")));
        let out = fs::File::create(self.path(log))?;
        let child = self
            .command(arguments)
            .stdin(Stdio::null())
            .stderr(out.try_clone()?)
            .stdout(out)
            .spawn()
            .context("starting holdfast")?;
        Ok(Process { child, log: self.path(log) })
    }

    /// The demo's node and a schedule of seconds, added to the configuration as a
    /// user would add them.
    pub(crate) fn append_source(&self) -> Result<()> {
        let mut token = [0_u8; 32];
        fs::File::open("/dev/urandom")?.read_exact(&mut token)?;
        let text: String = token.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.path("node.token"))?;
        file.write_all(text.as_bytes())?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        fs::write(self.path("port"), port.to_string())?;
        let source = format!(
            "\n[source.memory]\nkind = \"kernel\"\nurl = \"http://127.0.0.1:{port}\"\ntoken = {{ file = \"{}\" }}\n\n\
             [policy.memory]\nsource = \"memory\"\nschedule = \"every 1s\"\n",
            self.text("node.token")
        );
        let mut config = fs::OpenOptions::new().append(true).open(self.path("holdfast.toml"))?;
        config.write_all(source.as_bytes())?;
        Ok(())
    }

    pub(crate) async fn start_node(&self, say: &impl Fn(&str), folder: &str) -> Result<Node> {
        let address = format!("127.0.0.1:{}", fs::read_to_string(self.path("port"))?);
        let arguments = [
            "kernel",
            "run",
            "--data",
            &self.text(folder),
            "--listen",
            &address,
            "--token-file",
            &self.text("node.token"),
        ];
        let mut process = self.start(&arguments, &format!("{folder}.log"), say)?;
        let client = self.client(&address)?;
        let deadline = Instant::now() + PATIENCE;
        while client.health().await.is_err() {
            if Instant::now() > deadline || process.child.try_wait()?.is_some() {
                bail!("the node does not answer: {}", fs::read_to_string(&process.log)?);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Node { process, client, address })
    }

    pub(crate) fn client(&self, address: &str) -> Result<Client> {
        let token = Client::read_token(&self.path("node.token"))?;
        Ok(Client::new(&Endpoint::Tcp(format!("http://{address}")), &token)?)
    }

    /// Waits until a point past `begun` is listed, and returns its sequence.
    pub(crate) fn wait_for_point(&self, begun: u64) -> Result<u64> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let output = self.command(&["--json", "vault", "snapshots"]).stdin(Stdio::null()).output()?;
            let newest = String::from_utf8_lossy(&output.stdout)
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .filter(|event| event["type"] == "point")
                .filter_map(|event| event["position"].as_u64())
                .max();
            match newest {
                Some(sequence) if sequence > begun => return Ok(sequence),
                _ => std::thread::sleep(Duration::from_millis(200)),
            }
        }
        bail!("no point became durable: {}", fs::read_to_string(self.path("agent.log")).unwrap_or_default())
    }

    /// Deletes the node's data, the catalog, and four of the nine folders.
    pub(crate) fn lose(&self, say: &impl Fn(&str)) -> Result<Vec<String>> {
        let lost: Vec<String> = ["p2", "p3", "p6", "p9"].into_iter().map(|name| format!("vault/{name}")).collect();
        let rest = ["node".to_owned(), "vault/state".to_owned()];
        for folder in rest.iter().chain(&lost) {
            fs::remove_dir_all(self.path(folder)).with_context(|| format!("removing {folder}"))?;
            say(&format!("   $ rm -r {folder}"));
        }
        Ok(lost)
    }

    pub(crate) fn restore(&self, say: &impl Fn(&str), lost: &[String]) -> Result<()> {
        let left: Vec<String> = (1..=9)
            .map(|number| format!("vault/p{number}"))
            .filter(|folder| !lost.contains(folder))
            .map(|folder| self.text(&folder))
            .collect();
        let (key, to) = (self.text("recovered.key"), self.text("restored"));
        let mut arguments =
            vec!["vault", "restore", "latest", "--source", "memory", "--read-key", &key, "--to", &to, "--from"];
        arguments.extend(left.iter().map(String::as_str));
        let (code, output) = self.try_holdfast(say, &arguments)?;
        // 3: done, with warnings that four folders are gone.
        ensure!(code == 0 || code == 3, "the restore ended with {code}:\n{output}");
        Ok(())
    }

    /// Rebuilds the lost folders, then plays one rotten byte.
    pub(crate) fn heal(&self, say: &impl Fn(&str), lost: &[String]) -> Result<u64> {
        for folder in lost {
            fs::create_dir(self.path(folder))?;
        }
        let rebuilt = self.repair(say)?;
        let (shard, at) = self.rot()?;
        say(&format!("   one bit flipped at byte {at} of {}", shard.display().to_string().replace(&self.text(""), "")));
        let (code, output) = self.try_holdfast(say, &["vault", "audit"])?;
        ensure!(code == 4, "the audit must find the damage (exit 4), and ended with {code}:\n{output}");
        let mended = self.repair(say)?;
        ensure!(mended == 1, "one shard was rotten, {mended} were written");
        self.holdfast(say, &["vault", "audit"])?;
        Ok(rebuilt + mended)
    }

    pub(crate) fn repair(&self, say: &impl Fn(&str)) -> Result<u64> {
        say("   $ holdfast vault repair --apply");
        let output = self.command(&["--json", "vault", "repair", "--apply"]).stdin(Stdio::null()).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let summary = text.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok()).unwrap_or_default();
        let shards = summary["shards"].as_u64();
        let problems = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "repair ended with {:?}: {problems}", output.status.code());
        let shards = shards.context("repair printed no summary")?;
        say(&format!("     {shards} shards and {} records written and read back", summary["records"]));
        Ok(shards)
    }

    /// Flips one bit in the middle of the first shard of p1.
    pub(crate) fn rot(&self) -> Result<(PathBuf, u64)> {
        let shard = first_file(&self.path("vault/p1/shards"))?.context("p1 holds no shard")?;
        let mut file = fs::OpenOptions::new().read(true).write(true).open(&shard)?;
        let at = file.metadata()?.len() / 2;
        let mut byte = [0];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut byte)?;
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&[byte[0] ^ 1])?;
        Ok((shard, at))
    }
}

fn first_file(folder: &Path) -> Result<Option<PathBuf>> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    entries.sort();
    for entry in entries {
        if entry.is_file() {
            return Ok(Some(entry));
        }
        if let Some(found) = first_file(&entry)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// A child that does not outlive the demo.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) log: PathBuf,
}

impl Process {
    /// SIGKILL.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits for a graceful end.
    pub(crate) fn stop_gently(mut self) -> Result<()> {
        let id = i32::try_from(self.child.id()).context("a process id")?;
        let id = rustix::process::Pid::from_raw(id).context("a process id")?;
        rustix::process::kill_process(id, rustix::process::Signal::TERM)?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the agent ended with {status}: {}", fs::read_to_string(&self.log)?);
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the agent did not stop: {}", fs::read_to_string(&self.log)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
