//! The line language by which a bead's body, or a message, directs a rehearsal.
//!
//! A directive is a line that begins with `rehearse:`; all other lines are ignored. They are played
//! in their order, between looking at the work (`prime`) and finishing it (commit, push, `done`).
//!
//! | directive | effect |
//! |---|---|
//! | `say TEXT` · `think TEXT` | text, or reasoning, streamed word by word |
//! | `write PATH <<TEXT` · `append PATH <<TEXT` | a file in the working directory; `\n` in TEXT begins a new line |
//! | `read PATH` | reads a file |
//! | `run git ARGS` | runs git; words may be quoted with `"` or `'` |
//! | `tool NAME {JSON}` | calls a tool of the registered tool server, by its name there |
//! | `ask question TEXT \| OPTION \| OPTION` | asks and waits for the answer |
//! | `ask permission TEXT` | asks whether it may run TEXT; it goes on if it may, else the turn fails |
//! | `slow 50ms` | from here on, so long between two words (`0ms`: no pause) |
//! | `error TEXT` | the turn fails as when the model refuses |
//! | `retry TEXT` | as when the model can't be reached: tries again until it is aborted |
//! | `offline TEXT` | as Kilo when the model can't be reached: waits until it is aborted |
//! | `hang` | busy until it is aborted |
//! | `crash` | the whole agent server ends |
//! | `no-done` | the work is committed and pushed, but `done` is not called |
//! | `no-push` | the work is committed, but neither pushed nor called done |
//! | `rework DIRECTIVE` | only when the branch was sent back, and then instead of the others |
//! | `object TEXT` | for the refinery: the first review asks for this change, the second line is for the second review; without a line it approves |
//! | `review DIRECTIVE` | for the refinery: before its verdict |

use std::time::Duration;

/// What a line begins with to be a directive.
const MARK: &str = "rehearse:";

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Say(String),
    Think(String),
    Write {
        path: String,
        content: String,
    },
    Append {
        path: String,
        content: String,
    },
    Read {
        path: String,
    },
    Git(Vec<String>),
    Tool {
        name: String,
        input: serde_json::Value,
    },
    AskQuestion {
        question: String,
        options: Vec<String>,
    },
    AskPermission {
        command: String,
    },
    Slow(Duration),
    Error(String),
    Retry(String),
    Offline(String),
    Hang,
    Crash,
}

/// The directives of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Script {
    pub(super) steps: Vec<Step>,
    pub(super) no_done: bool,
    pub(super) no_push: bool,
    /// What a polecat does whose branch was sent back.
    pub(super) rework: Vec<Step>,
    /// What the refinery does before its verdict.
    pub(super) review: Vec<Step>,
    /// What the refinery wants changed, review by review.
    pub(super) objections: Vec<String>,
}

impl Script {
    /// Reads the directives in `text`; an error names the line that is none.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut script = Self::default();
        for line in text.lines() {
            let Some(directive) = line.trim().strip_prefix(MARK) else {
                continue;
            };
            match directive.trim() {
                "no-done" => script.no_done = true,
                "no-push" => script.no_push = true,
                directive => script
                    .take_in(directive)
                    .map_err(|reason| format!("can't rehearse {directive:?}: {reason}"))?,
            }
        }
        Ok(script)
    }

    fn take_in(&mut self, directive: &str) -> Result<(), &'static str> {
        match split_word(directive) {
            ("rework", rest) => self.rework.push(step(rest)?),
            ("review", rest) => self.review.push(step(rest)?),
            ("object", "") => return Err("to what?"),
            ("object", rest) => self.objections.push(unescape(rest)),
            _ => self.steps.push(step(directive)?),
        }
        Ok(())
    }

    /// Whether the text directs anything.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn step(directive: &str) -> Result<Step, &'static str> {
    let (word, rest) = split_word(directive);
    Ok(match word {
        "say" => Step::Say(unescape(rest)),
        "think" => Step::Think(unescape(rest)),
        "write" => {
            let (path, content) = path_and_text(rest)?;
            Step::Write { path, content }
        }
        "append" => {
            let (path, content) = path_and_text(rest)?;
            Step::Append { path, content }
        }
        "read" if !rest.is_empty() => Step::Read {
            path: rest.to_owned(),
        },
        "read" => return Err("which file?"),
        "run" => match split_word(rest) {
            ("git", arguments) => Step::Git(words(arguments)?),
            _ => return Err("only git can be run"),
        },
        "tool" => {
            let (name, input) = split_word(rest);
            let input = if input.is_empty() { "{}" } else { input };
            let input = serde_json::from_str(input).map_err(|_| "the tool's input is no JSON")?;
            Step::Tool {
                name: name.to_owned(),
                input,
            }
        }
        "ask" => ask(rest)?,
        "slow" => Step::Slow(humantime::parse_duration(rest).map_err(|_| "how slow? say 50ms")?),
        "error" => Step::Error(rest.to_owned()),
        "retry" => Step::Retry(rest.to_owned()),
        "offline" => Step::Offline(rest.to_owned()),
        "hang" => Step::Hang,
        "crash" => Step::Crash,
        _ => return Err("there is no such directive"),
    })
}

fn ask(rest: &str) -> Result<Step, &'static str> {
    match split_word(rest) {
        ("question", text) if !text.is_empty() => {
            let mut parts = text.split('|').map(|part| part.trim().to_owned());
            let question = parts.next().unwrap_or_default();
            Ok(Step::AskQuestion {
                question,
                options: parts.collect(),
            })
        }
        ("permission", command) if !command.is_empty() => Ok(Step::AskPermission {
            command: command.to_owned(),
        }),
        _ => Err("ask a question or for a permission, with a text"),
    }
}

fn path_and_text(rest: &str) -> Result<(String, String), &'static str> {
    let (path, text) = rest.split_once("<<").ok_or("expected PATH <<TEXT")?;
    if path.trim().is_empty() {
        return Err("which file?");
    }
    Ok((
        path.trim().to_owned(),
        format!("{}\n", unescape(text.trim_start())),
    ))
}

fn split_word(text: &str) -> (&str, &str) {
    let text = text.trim();
    text.split_once(char::is_whitespace)
        .map_or((text, ""), |(word, rest)| (word, rest.trim()))
}

fn unescape(text: &str) -> String {
    text.replace("\\n", "\n")
}

/// Splits a command line into words; quotes keep spaces, and nothing else is special.
fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for character in text.chars() {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, space) if space.is_whitespace() => words.extend(word.take()),
            (_, other) => word.get_or_insert_default().push(other),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed");
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Step) {
        let script = Script::parse(&format!("Some text.\n  rehearse: {line}\nmore")).unwrap();
        assert_eq!(script.steps, [expected]);
    }

    #[test]
    fn every_directive_is_read() {
        check("say Hello  there", Step::Say("Hello  there".into()));
        check("think hm", Step::Think("hm".into()));
        check(
            r"write docs/a b.md <<one\ntwo",
            Step::Write {
                path: "docs/a b.md".into(),
                content: "one\ntwo\n".into(),
            },
        );
        check(
            "append x <<",
            Step::Append {
                path: "x".into(),
                content: "\n".into(),
            },
        );
        check("read x", Step::Read { path: "x".into() });
        check(
            r#"run git commit -m "two words" --author='A <a@b>' """#,
            Step::Git(
                ["commit", "-m", "two words", "--author=A <a@b>", ""]
                    .map(Into::into)
                    .into(),
            ),
        );
        check(
            r#"tool mail_send {"to":"mayor"}"#,
            Step::Tool {
                name: "mail_send".into(),
                input: serde_json::json!({"to": "mayor"}),
            },
        );
        check(
            "tool prime",
            Step::Tool {
                name: "prime".into(),
                input: serde_json::json!({}),
            },
        );
        check(
            "ask question Which? | Red | Blue",
            Step::AskQuestion {
                question: "Which?".into(),
                options: vec!["Red".into(), "Blue".into()],
            },
        );
        check(
            "ask permission rm x",
            Step::AskPermission {
                command: "rm x".into(),
            },
        );
        check("slow 50ms", Step::Slow(Duration::from_millis(50)));
        check("error no credit", Step::Error("no credit".into()));
        check("retry no route", Step::Retry("no route".into()));
        check("offline no route", Step::Offline("no route".into()));
        check("hang", Step::Hang);
        check("crash", Step::Crash);
    }

    #[test]
    fn other_lines_are_no_directives() {
        let script = Script::parse("Please rehearse: hang\nAnd crash.").unwrap();
        assert!(script.is_empty());
    }

    #[test]
    fn what_is_for_later_rounds_is_kept_apart() {
        let text = "rehearse: say a\nrehearse: rework say b\nrehearse: review say c\n\
                    rehearse: object d";
        let script = Script::parse(text).unwrap();
        assert_eq!(script.steps, [Step::Say("a".into())]);
        assert_eq!(script.rework, [Step::Say("b".into())]);
        assert_eq!(script.review, [Step::Say("c".into())]);
        assert_eq!(script.objections, ["d"]);
    }

    #[test]
    fn endings_are_remembered() {
        let script = Script::parse("rehearse: no-done\nrehearse:no-push").unwrap();
        assert!(script.no_done && script.no_push && !script.is_empty());
    }

    #[test]
    fn what_can_not_be_played_is_named() {
        for line in [
            "dance",
            "run rm -rf /",
            "write x",
            "write <<x",
            "ask",
            "slow down",
            "read",
            "run git 'x",
            "tool x {",
            "object",
            "rework dance",
            "review",
        ] {
            let error = Script::parse(&format!("rehearse: {line}")).unwrap_err();
            assert!(error.contains("can't rehearse"), "{error}");
        }
    }
}
