//! The player: does what a script says, and shows it as an agent at work.

use std::future::{Future, pending};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::record::{Finish, Record};
use super::script::Step;
use super::stage::{Durability, Stage};
use super::tools::{self, Outcome};
use crate::sdk::ServerExit;

/// The wait between two attempts of `retry`, times the attempt's number.
const RETRY_WAIT: Duration = Duration::from_millis(200);

/// A tool takes at least as long as this many words, so that it is seen at work.
const WORDS_PER_TOOL: u32 = 6;

/// Why a turn ended before its script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Someone asked for it.
    Aborted,
    /// The model failed, in these words.
    Model(String),
}

/// One session's agent during one turn.
#[derive(Debug)]
pub(super) struct Player<'a> {
    stage: &'a Stage,
    session_id: &'a str,
    directory: &'a str,
    record: Record<'a>,
    pace: Duration,
}

impl<'a> Player<'a> {
    pub(super) fn new(
        stage: &'a Stage,
        session_id: &'a str,
        directory: &'a str,
        record: Record<'a>,
    ) -> Self {
        Self {
            stage,
            session_id,
            directory,
            record,
            pace: stage.settings.pace,
        }
    }

    pub(super) fn into_record(self) -> Record<'a> {
        self.record
    }

    pub(super) const fn directory(&self) -> &str {
        self.directory
    }

    /// Whether a tool server of this directory has the tool.
    pub(super) fn has_tool(&self, tool: &str) -> bool {
        self.stage.tool_server(self.directory, tool).is_some()
    }

    /// Does one step of a script.
    pub(super) async fn step(&mut self, step: &Step) -> Result<(), Failure> {
        match step {
            Step::Say(text) => self.say(text).await,
            Step::Think(text) => self.think(text).await,
            Step::Write { path, content } => {
                self.write(path, content).await;
            }
            Step::Append { path, content } => {
                self.append(path, content).await;
            }
            Step::Read { path } => {
                self.read(path).await;
            }
            Step::Git(arguments) => {
                self.git(arguments).await;
            }
            Step::Tool { name, input } => {
                self.call(name, input.clone()).await;
            }
            Step::AskQuestion { question, options } => self.ask_question(question, options).await,
            Step::AskPermission { command } => self.ask_permission(command).await?,
            Step::Slow(pace) => self.pace = *pace,
            Step::Error(text) => return Err(Failure::Model(text.clone())),
            Step::Retry(text) => self.retry(text).await,
            Step::Offline(text) => self.offline(text).await,
            Step::Hang => pending().await,
            Step::Crash => self.crash().await,
        }
        Ok(())
    }

    /// Streams text to the user.
    pub(super) async fn say(&mut self, text: &str) {
        self.stream("text", text).await;
    }

    /// Streams reasoning.
    pub(super) async fn think(&mut self, text: &str) {
        self.stream("reasoning", text).await;
    }

    /// Ends the last message of the turn.
    pub(super) async fn finish(&mut self) {
        self.record.finish(Finish::Stop).await;
    }

    pub(super) async fn write(&mut self, path: &str, content: &str) -> Outcome {
        let input = json!({"filePath": path, "content": content});
        let file = tools::file_in(self.directory, path);
        let outcome = self
            .tool("write", path, input, async {
                match &file {
                    Ok(file) => tools::write(file, content).await,
                    Err(reason) => Outcome::failed(reason.clone()),
                }
            })
            .await;
        if let (Ok(file), true) = (&file, outcome.succeeded) {
            let edited = json!({"file": file});
            self.record
                .tell("file.edited", &edited, Durability::Transient)
                .await;
            let seen = json!({"file": file, "event": "change"});
            self.record
                .tell("file.watcher.updated", &seen, Durability::Transient)
                .await;
        }
        outcome
    }

    pub(super) async fn append(&mut self, path: &str, content: &str) -> Outcome {
        let present = match tools::file_in(self.directory, path) {
            Ok(file) => tokio::fs::read_to_string(file).await.unwrap_or_default(),
            Err(_) => String::new(),
        };
        self.write(path, &(present + content)).await
    }

    pub(super) async fn read(&mut self, path: &str) -> Outcome {
        let file = tools::file_in(self.directory, path);
        self.tool("read", path, json!({"filePath": path}), async {
            match file {
                Ok(file) => tools::read(&file).await,
                Err(reason) => Outcome::failed(reason),
            }
        })
        .await
    }

    pub(super) async fn git(&mut self, arguments: &[String]) -> Outcome {
        let command = format!("git {}", shell_words(arguments));
        let input = json!({"command": command, "description": "Run git"});
        let work = tools::git(&self.stage.settings, self.directory, arguments);
        self.tool("bash", &command, input, work).await
    }

    /// Calls a tool of the tool server that has it.
    pub(super) async fn call(&mut self, tool: &str, input: Value) -> Outcome {
        let found = self.stage.tool_server(self.directory, tool);
        let shown = match &found {
            Some((server, _)) => format!("{server}_{tool}"),
            None => tool.to_owned(),
        };
        let arguments = input.clone();
        self.tool(&shown, "", input, async {
            let Some((_, server)) = found else {
                return Outcome::failed(format!("there is no tool {tool:?} here"));
            };
            match server.call(tool, &arguments).await {
                Ok(output) => Outcome {
                    output,
                    metadata: json!({"truncated": false}),
                    succeeded: true,
                },
                Err(reason) => Outcome::failed(reason),
            }
        })
        .await
    }

    async fn stream(&mut self, part_type: &str, text: &str) {
        let start = self.stage.now();
        let part = json!({"type": part_type, "text": "", "time": {"start": start}});
        let mut part = self.record.new_part(part).await;
        for word in text.split_inclusive(char::is_whitespace) {
            self.record.delta(&part, word).await;
            self.pause(1).await;
        }
        part["text"] = text.into();
        part["time"]["end"] = self.stage.now().into();
        self.record.put_part(part).await;
    }

    /// Shows a tool at work: pending, running, and what came of it.
    async fn tool(
        &mut self,
        tool: &str,
        title: &str,
        input: Value,
        work: impl Future<Output = Outcome>,
    ) -> Outcome {
        let (part, start) = self.begin_tool(tool, &input).await;
        self.pause(WORDS_PER_TOOL).await;
        let outcome = work.await;
        self.end_tool(part, start, title, input, &outcome).await;
        outcome
    }

    async fn pause(&self, words: u32) {
        if !self.pace.is_zero() {
            sleep(self.pace.saturating_mul(words)).await;
        }
    }

    async fn begin_tool(&mut self, tool: &str, input: &Value) -> (Value, i64) {
        let mut part = self
            .record
            .new_part(json!({
                "type": "tool", "tool": tool, "callID": self.stage.new_id("call"),
                "state": {"status": "pending", "input": {}, "raw": ""},
            }))
            .await;
        let start = self.stage.now();
        part["state"] = json!({"status": "running", "input": input, "time": {"start": start}});
        self.record.put_part(part.clone()).await;
        (part, start)
    }

    async fn end_tool(
        &mut self,
        mut part: Value,
        start: i64,
        title: &str,
        input: Value,
        outcome: &Outcome,
    ) {
        let time = json!({"start": start, "end": self.stage.now()});
        // A command that ran is complete whatever its exit code, as in opencode.
        part["state"] = if outcome.succeeded || !outcome.metadata["exit"].is_null() {
            json!({
                "status": "completed", "input": input, "output": outcome.output,
                "metadata": outcome.metadata, "title": title, "time": time,
            })
        } else {
            json!({"status": "error", "input": input, "error": outcome.output, "time": time})
        };
        self.record.put_part(part).await;
        self.record.read(&outcome.output);
        self.record.finish(Finish::ToolCalls).await;
    }

    async fn ask_question(&mut self, question: &str, options: &[String]) {
        let options: Vec<_> = options
            .iter()
            .map(|label| json!({"label": label, "description": ""}))
            .collect();
        let questions = json!([{"question": question, "header": "Question", "options": options}]);
        let input = json!({"questions": questions});
        let (part, start) = self.begin_tool("question", &input).await;
        let id = self.stage.new_id("que");
        let answer = self.stage.ask(&id);
        let asked = json!({
            "id": id, "sessionID": self.session_id, "questions": questions,
            "tool": {"messageID": part["messageID"], "callID": part["callID"]},
        });
        self.record
            .tell("question.asked", &asked, Durability::Transient)
            .await;
        let outcome = match answer.await.unwrap_or(Err(())) {
            Ok(answers) => {
                let replied = json!({
                    "sessionID": self.session_id, "requestID": id, "answers": answers,
                });
                self.record
                    .tell("question.replied", &replied, Durability::Transient)
                    .await;
                Outcome {
                    output: format!("The user answered: {}", answers.concat().join(", ")),
                    metadata: json!({"answers": answers, "truncated": false}),
                    succeeded: true,
                }
            }
            Err(()) => {
                let rejected = json!({"sessionID": self.session_id, "requestID": id});
                self.record
                    .tell("question.rejected", &rejected, Durability::Transient)
                    .await;
                Outcome::failed("The user dismissed this question".to_owned())
            }
        };
        self.end_tool(part, start, "Asked 1 question", input, &outcome)
            .await;
    }

    async fn ask_permission(&mut self, command: &str) -> Result<(), Failure> {
        let input = json!({"command": command, "description": "Ask first"});
        let (part, start) = self.begin_tool("bash", &input).await;
        let id = self.stage.new_id("per");
        let answer = self.stage.ask(&id);
        let asked = json!({
            "id": id, "sessionID": self.session_id, "permission": "bash", "patterns": [command],
            "metadata": {}, "always": [command],
            "tool": {"messageID": part["messageID"], "callID": part["callID"]},
        });
        self.record
            .tell("permission.asked", &asked, Durability::Transient)
            .await;
        let allowed = answer.await.unwrap_or(Err(())).is_ok();
        let replied = json!({
            "sessionID": self.session_id, "requestID": id,
            "reply": if allowed { "once" } else { "reject" },
        });
        self.record
            .tell("permission.replied", &replied, Durability::Transient)
            .await;
        let outcome = if allowed {
            Outcome {
                output: "It may be run; a rehearsal runs nothing but git.".to_owned(),
                metadata: json!({"truncated": false}),
                succeeded: true,
            }
        } else {
            Outcome::failed("The user rejected permission to use this tool.".to_owned())
        };
        self.end_tool(part, start, command, input, &outcome).await;
        if allowed {
            Ok(())
        } else {
            Err(Failure::Model(
                "The user rejected permission to use this tool.".to_owned(),
            ))
        }
    }

    /// As when the model can't be reached: attempts without end, each told.
    async fn retry(&mut self, text: &str) {
        let mut attempt = 0_u32;
        loop {
            attempt = attempt.saturating_add(1);
            let wait = RETRY_WAIT.saturating_mul(attempt);
            let next = self.stage.now() + i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
            let status = json!({
                "sessionID": self.session_id,
                "status": {"type": "retry", "attempt": attempt, "message": text, "next": next},
            });
            self.record
                .tell("session.status", &status, Durability::Transient)
                .await;
            sleep(wait).await;
        }
    }

    /// As Kilo when the model can't be reached: says so once, and waits.
    async fn offline(&mut self, text: &str) {
        let id = self.stage.new_id("que");
        let asked = json!({
            "id": id, "sessionID": self.session_id, "message": text, "restored": false,
            "time": {"created": self.stage.now()},
        });
        self.record
            .tell("session.network.asked", &asked, Durability::Transient)
            .await;
        let status = json!({
            "sessionID": self.session_id,
            "status": {"type": "offline", "requestID": id, "message": text},
        });
        self.record
            .tell("session.status", &status, Durability::Transient)
            .await;
        pending().await
    }

    async fn crash(&mut self) {
        self.stage.end(ServerExit {
            code: Some(1),
            signal: None,
            output: "the script said: crash".to_owned(),
        });
        // The end reaches this task too.
        pending().await
    }
}

/// A command line as a person would type it.
fn shell_words(arguments: &[String]) -> String {
    let quoted = arguments.iter().map(|argument| {
        let plain =
            |character: char| character.is_alphanumeric() || "-_./=:@+,".contains(character);
        if !argument.is_empty() && argument.chars().all(plain) {
            argument.clone()
        } else {
            format!("'{}'", argument.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}
