//! A real gastownd server process, its data folder, and clients of its HTTP and WebSocket.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastwebsockets::{Frame, OpCode, WebSocket};
use gastownd::lifecycle::Lifecycle;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::program::Program;

/// How long anything that must happen may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A server process on a data folder that goes with the test.
pub(crate) struct Server {
    program: Option<Program>,
    address: String,
    pub(crate) data: TempDir,
    arguments: Vec<String>,
    /// The gastownd program.
    program_path: PathBuf,
    /// Words of a command that the program is started by; empty if by none.
    pub(crate) prefix: Vec<String>,
    environment: Vec<(String, String)>,
    /// The administrator's token, where a login is asked for.
    token: Option<String>,
}

impl Server {
    /// Starts it on a new data folder and a free port, without login, and without isolation
    /// unless `arguments` ask for it.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let data = tempfile::Builder::new().prefix("gt").tempdir().unwrap();
        Self::start_on(data, arguments)
    }

    /// Starts it on a given data folder.
    pub(crate) fn start_on(data: TempDir, arguments: &[&str]) -> Self {
        Self::on(data, arguments).without_login()
    }

    /// Starts it by way of another command, which must become it.
    pub(crate) fn start_by(prefix: &[&str], data: TempDir, arguments: &[&str]) -> Self {
        let mut server = Self::on(data, arguments);
        server.prefix = prefix.iter().map(|word| (*word).to_owned()).collect();
        server.without_login()
    }

    /// Starts it with more variables in its environment.
    pub(crate) fn start_in(
        data: TempDir,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let mut server = Self::on(data, arguments);
        let variables = environment.iter();
        let variables = variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        server.environment = variables.collect();
        server.without_login()
    }

    fn without_login(mut self) -> Self {
        self.arguments.push("--no-auth".to_owned());
        self.launch("127.0.0.1:0");
        self
    }

    /// Starts it on a new data folder with login; its clients send the administrator's token.
    pub(crate) fn with_login(arguments: &[&str]) -> Self {
        let data = tempfile::Builder::new().prefix("gt").tempdir().unwrap();
        let mut server = Self::on(data, arguments);
        server.launch("127.0.0.1:0");
        let token = std::fs::read_to_string(server.data.path().join("admin.token")).unwrap();
        server.token = Some(token.trim().to_owned());
        server
    }

    fn on(data: TempDir, arguments: &[&str]) -> Self {
        Self {
            program: None,
            address: String::new(),
            data,
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
            program_path: env!("CARGO_BIN_EXE_gastownd").into(),
            prefix: Vec::new(),
            environment: Vec::new(),
            token: None,
        }
    }

    /// What it has said on standard error since its last start.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.data.path().join("stderr")).unwrap()
    }

    fn launch(&mut self, listen: &str) {
        let mut words = self.prefix.iter().map(String::as_str);
        let own = &self.program_path;
        let first = words.next().map_or(own.as_path(), Path::new);
        let mut command = Command::new(first);
        command.args(words);
        if !self.prefix.is_empty() {
            command.arg(own);
        }
        if self.said_to_file() {
            let file = std::fs::File::create(self.data.path().join("stderr")).unwrap();
            command.stderr(file);
        }
        command
            .args(["serve", "--allow-local-repos"])
            .args(["--listen", listen, "--data-dir"])
            .arg(self.data.path())
            .args(&self.arguments)
            // What a test has not asked for is not there: no session before somebody needs one.
            .env("GASTOWND_CONTAINER_ON_DEMAND", "true")
            .envs(self.environment.iter().cloned())
            .env(
                "GASTOWND_LOG",
                std::env::var("GASTOWND_LOG").unwrap_or("warn".to_owned()),
            );
        if !self.arguments.iter().any(|text| text == "--isolation") {
            command.args(["--isolation", "none"]);
        }
        let program = Program::start(&mut command);
        self.address = program.told_after("listening on http://").trim().to_owned();
        self.program = Some(program);
    }

    /// With login what it says is kept, because the link is among it; and where a test asks for a log.
    fn said_to_file(&self) -> bool {
        let has = |name| self.arguments.iter().any(|argument| argument == name);
        !has("--no-auth") || has("--log")
    }

    /// The administrator's token.
    pub(crate) fn token(&self) -> &str {
        self.token.as_deref().unwrap()
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.program.as_ref().unwrap().pid()
    }

    /// SIGKILL, and nothing else; what it started lives on.
    pub(crate) fn kill(&mut self) {
        self.program.take().unwrap().kill();
    }

    /// Starts it again on the same folder and port.
    pub(crate) fn restart(&mut self) {
        let address = self.address.clone();
        self.launch(&address);
    }

    /// From its next start on it is another copy of the program, which replaces the one before as a
    /// package manager does: by a rename, while that one may still run.
    pub(crate) fn install(&mut self, folder: &Path) {
        let (fresh, place) = (folder.join("gastownd.new"), folder.join("gastownd"));
        std::fs::copy(env!("CARGO_BIN_EXE_gastownd"), &fresh).unwrap();
        std::fs::rename(&fresh, &place).unwrap();
        self.program_path = place;
    }

    /// SIGTERM; its exit status.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.program.take().unwrap().terminate()
    }

    /// Sends a signal and waits for its end.
    pub(crate) fn signal(&mut self, signal: Signal) -> ExitStatus {
        let mut program = self.program.take().unwrap();
        program.signal(signal);
        program.wait()
    }

    /// Waits until it ends by itself.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.program.take().unwrap().wait()
    }

    /// A request; the status and the whole answer.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = bearer
            .iter()
            .map(|value| ("authorization", value.as_str()))
            .collect();
        let (status, body) = request(&self.address, method, path, &headers, body).await;
        let value = serde_json::from_slice(&body).unwrap_or_else(|error| {
            panic!(
                "{method} {path}: {error}: {}",
                String::from_utf8_lossy(&body)
            )
        });
        (status, value)
    }

    /// A request that must succeed; its `data`.
    pub(crate) async fn must(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, mut answer) = self.call(method, path, body).await;
        assert!(status.is_success(), "{method} {path}: {status} {answer}");
        answer["data"].take()
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.must("GET", path, Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        self.must("POST", path, body).await
    }

    /// A town of the user `u`, with this config; its path `/api/towns/{id}`.
    pub(crate) async fn town(&self, config: Value) -> String {
        let town = self
            .post("/api/users/u/towns", json!({"name": "Test"}))
            .await;
        let path = format!("/api/towns/{}", town["id"].as_str().unwrap());
        self.must("PATCH", &format!("{path}/config"), config).await;
        path
    }

    /// A rig of that town on a local repository; its path.
    pub(crate) async fn rig(&self, town: &str, repository: &Path) -> String {
        self.rig_named("rig", town, repository).await
    }

    /// The same under a name of its own.
    pub(crate) async fn rig_named(&self, name: &str, town: &str, repository: &Path) -> String {
        let town_id = town.rsplit('/').next().unwrap();
        let body = json!({"town_id": town_id, "name": name, "git_url": repository});
        let rig = self.post("/api/users/u/rigs", body).await;
        format!("{town}/rigs/{}", rig["id"].as_str().unwrap())
    }

    /// Waits until a GET of `path` satisfies `wanted`; its data.
    pub(crate) async fn until(
        &self,
        what: &str,
        path: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let limit = Instant::now() + PATIENCE;
        loop {
            let data = self.get(path).await;
            if wanted(&data) {
                return data;
            }
            assert!(
                Instant::now() < limit,
                "never came: {what}; {path} is {data:#}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Opens the WebSocket of a town and takes the hello.
    pub(crate) async fn stream(&self, town: &str) -> Stream {
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = bearer
            .iter()
            .map(|value| ("authorization", value.as_str()))
            .collect();
        let mut stream = Stream::connect(&self.address, &format!("{town}/ws"), &headers).await;
        assert_eq!(stream.next().await.unwrap()["type"], "hello");
        stream
    }

    /// The processes that belong to this data folder, the server not counted.
    pub(crate) fn leftovers(&self) -> Vec<u32> {
        processes_of(self.data.path())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut program) = self.program.take() {
            program.terminate();
        }
        // Containers outlive their server on purpose; here they go: a first signal drains, a second
        // ends at once, for nobody is left to take what they would still say.
        for signal in [Signal::TERM, Signal::TERM, Signal::KILL] {
            let limit = Instant::now() + Duration::from_secs(3);
            for pid in self.leftovers() {
                let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
                let _ = kill_process(pid, signal);
            }
            while Instant::now() < limit {
                if self.leftovers().is_empty() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// Processes whose command line or working directory names `folder`.
pub(crate) fn processes_of(folder: &Path) -> Vec<u32> {
    let folder = folder.to_string_lossy().into_owned();
    let pids = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != std::process::id())
        .filter(|pid| {
            let own = PathBuf::from(format!("/proc/{pid}"));
            let command = std::fs::read(own.join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            let directory = std::fs::read_link(own.join("cwd")).unwrap_or_default();
            (command.contains(&folder) || directory.starts_with(&folder))
                && !command.contains(" serve --allow-local-repos")
        })
        .collect()
}

/// One HTTP exchange on a connection of its own.
pub(crate) async fn request(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> (StatusCode, Bytes) {
    let (status, _, body) = exchange(address, method, path, headers, body).await;
    (status, body)
}

/// The same with the answer's headers.
pub(crate) async fn exchange(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> (StatusCode, hyper::HeaderMap, Bytes) {
    let stream = TcpStream::connect(address).await.unwrap();
    exchange_on(stream, address, method, path, headers, body)
        .await
        .unwrap()
}

/// The same on a connection that was made; fails if the server goes away.
pub(crate) async fn exchange_on(
    stream: TcpStream,
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Result<(StatusCode, hyper::HeaderMap, Bytes), hyper::Error> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    lifecycle().spawn_detached("test client", async move {
        let _ = connection.await;
    });
    let mut request = Request::builder()
        .method(method.parse::<Method>().unwrap())
        .uri(path)
        .header("host", address);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    let response = sender.send_request(request).await?;
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok((head.status, head.headers, body))
}

/// A WebSocket client.
pub(crate) struct Stream {
    socket: WebSocket<TokioIo<hyper::upgrade::Upgraded>>,
}

/// Tasks of test clients end with the test's runtime.
fn lifecycle() -> Lifecycle {
    Lifecycle::new()
}

struct Spawner;

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn execute(&self, future: F) {
        lifecycle().spawn_detached("test client", async move {
            future.await;
        });
    }
}

impl Stream {
    pub(crate) async fn connect(address: &str, path: &str, headers: &[(&str, &str)]) -> Self {
        let stream = Self::try_connect(address, path, headers).await;
        stream.expect("the server takes the WebSocket")
    }

    /// `None` if the server refuses.
    pub(crate) async fn try_connect(
        address: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Option<Self> {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut request = Request::builder()
            .uri(path)
            .header("host", address)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header(
                "sec-websocket-key",
                fastwebsockets::handshake::generate_key(),
            );
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(http_body_util::Empty::<Bytes>::new()).unwrap();
        let (socket, _) = fastwebsockets::handshake::client(&Spawner, request, stream)
            .await
            .ok()?;
        Some(Self { socket })
    }

    pub(crate) async fn say(&mut self, message: Value) {
        let frame = Frame::text(message.to_string().into_bytes().into());
        self.socket.write_frame(frame).await.unwrap();
    }

    /// Any frame, valid or not.
    pub(crate) async fn send(&mut self, frame: Frame<'_>) {
        self.socket.write_frame(frame).await.unwrap();
    }

    /// The code with which the other side closes; what it says before is passed over.
    pub(crate) async fn close_code(&mut self) -> Option<u16> {
        self.socket.set_auto_close(false);
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.socket.read_frame())
                .await
                .expect("a message within patience");
            let frame = frame.ok()?;
            if frame.opcode == OpCode::Close {
                let code = frame.payload.get(..2)?;
                return Some(u16::from_be_bytes([code[0], code[1]]));
            }
        }
    }

    /// The next frame of any kind, answered by nobody; `None` when the connection has ended.
    pub(crate) async fn frame(&mut self) -> Option<(OpCode, Vec<u8>)> {
        self.socket.set_auto_pong(false);
        let frame = tokio::time::timeout(PATIENCE, self.socket.read_frame())
            .await
            .expect("a frame within patience");
        frame
            .ok()
            .map(|frame| (frame.opcode, frame.payload.to_vec()))
    }

    /// Subscribes to an agent from behind that event.
    pub(crate) async fn subscribe(&mut self, agent_id: &str, after: u64) {
        self.say(json!({"type": "subscribe", "agentId": agent_id, "afterEventId": after}))
            .await;
    }

    /// The next message; `None` when the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        self.next_or_end().await.ok()
    }

    /// The next message; at the end the close code, if the server said one.
    pub(crate) async fn next_or_end(&mut self) -> Result<Value, Option<u16>> {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.socket.read_frame())
                .await
                .expect("a message within patience");
            let Ok(frame) = frame else { return Err(None) };
            match frame.opcode {
                OpCode::Text => return Ok(serde_json::from_slice(&frame.payload).unwrap()),
                OpCode::Close => {
                    let code = frame.payload.first_chunk().copied();
                    return Err(code.map(u16::from_be_bytes));
                }
                _ => {}
            }
        }
    }

    /// Its events, read in a task of its own, which also answers the server's pings while the test
    /// is at something else.
    pub(crate) fn events(mut self) -> Events {
        let (sender, events) = mpsc::unbounded_channel();
        lifecycle().spawn_detached("events of a stream", async move {
            while let Some(event) = self.event().await {
                if sender.send(event).is_err() {
                    break;
                }
            }
        });
        Events(events)
    }

    /// The next event; what else is said is passed over.
    pub(crate) async fn event(&mut self) -> Option<Value> {
        loop {
            let message = self.next().await?;
            if message.get("id").is_some() && message.get("data").is_some() {
                return Some(message);
            }
        }
    }
}

/// What a stream shows, kept until the test looks.
pub(crate) struct Events(mpsc::UnboundedReceiver<Value>);

impl Events {
    /// The next one; `None` when the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        let next = tokio::time::timeout(PATIENCE, self.0.recv()).await;
        next.expect("an event within patience")
    }
}
