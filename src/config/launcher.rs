//! The command line by which an operator starts containers: its words, and the places in them.

use std::ffi::OsString;

/// The word that stands for all arguments of the container.
const ARGUMENTS: &str = "{arguments}";

/// What differs from town to town in a launcher's command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The `gastownd` program.
    Program,
    /// The folder that the server and the container share on one machine.
    RunDir,
    /// The folder of repositories and worktrees.
    Workspace,
    /// The file with what the server will show on TCP.
    TokenFile,
    /// The town's id.
    Town,
}

const PLACES: &[(&str, Place)] = &[
    ("program", Place::Program),
    ("run_dir", Place::RunDir),
    ("workspace", Place::Workspace),
    ("token_file", Place::TokenFile),
    ("town", Place::Town),
];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Arguments,
    Parts(Vec<Part>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Place(Place),
}

/// A command line with places in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LauncherTemplate(Vec<Word>);

impl LauncherTemplate {
    /// Reads a command line as a shell would: words, quotes and backslashes, but nothing else of a
    /// shell. Places may stand anywhere in a word; `{arguments}` is a word behind the program.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that begins with its name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let words =
            shlex::split(text).ok_or("has a quotation mark or a backslash without its end")?;
        let [program, rest @ ..] = words.as_slice() else {
            return Err("must be a command line".to_owned());
        };
        if program == ARGUMENTS || !rest.iter().any(|word| word == ARGUMENTS) {
            return Err(format!(
                "must have the word {ARGUMENTS} behind its program, for the container's own command line"
            ));
        }
        let read: Result<_, _> = words.iter().map(|word| Word::parse(word)).collect();
        Ok(Self(read?))
    }

    /// The command line with everything filled in; the first word is the program.
    pub fn filled(
        &self,
        place: impl Fn(Place) -> OsString,
        arguments: &[OsString],
    ) -> Vec<OsString> {
        let mut filled = Vec::new();
        for word in &self.0 {
            match word {
                Word::Arguments => filled.extend_from_slice(arguments),
                Word::Parts(parts) => {
                    let mut whole = OsString::new();
                    for part in parts {
                        match part {
                            Part::Text(text) => whole.push(text),
                            Part::Place(which) => whole.push(place(*which)),
                        }
                    }
                    filled.push(whole);
                }
            }
        }
        filled
    }
}

impl Word {
    fn parse(word: &str) -> Result<Self, String> {
        if word == ARGUMENTS {
            return Ok(Self::Arguments);
        }
        let (mut parts, mut rest) = (Vec::new(), word);
        while let Some((before, name, behind)) = first_place(rest) {
            if name == "arguments" {
                return Err(format!("has {ARGUMENTS} within a word; it is many words"));
            }
            let known = PLACES.iter().find(|(known, _)| *known == name);
            let Some((_, place)) = known else {
                return Err(format!(
                    "has {{{name}}}, which is none of {}",
                    known_places()
                ));
            };
            parts.extend([Part::Text(before.to_owned()), Part::Place(*place)]);
            rest = behind;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self::Parts(parts))
    }
}

/// What stands before the first `{name}`, the name, and what stands behind it. Other braces, such as
/// podman's `{{.Id}}`, are text.
fn first_place(text: &str) -> Option<(&str, &str, &str)> {
    let (mut begin, mut rest) = (0, text);
    loop {
        let open = begin + rest.find('{')?;
        let inner = &text[open + 1..];
        let end = inner.find(|c: char| !c.is_ascii_lowercase() && c != '_');
        match end {
            Some(end) if end > 0 && inner[end..].starts_with('}') => {
                return Some((&text[..open], &inner[..end], &inner[end + 1..]));
            }
            _ => {
                begin = open + 1;
                rest = inner;
            }
        }
    }
}

fn known_places() -> String {
    let names = PLACES.iter().map(|(name, _)| format!("{{{name}}}"));
    let mut names: Vec<String> = names.collect();
    names.push(ARGUMENTS.to_owned());
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str) -> Vec<String> {
        let place = |place| OsString::from(format!("<{place:?}>"));
        let arguments = ["container".into(), "{town}".into()];
        let words = LauncherTemplate::parse(template)
            .unwrap()
            .filled(place, &arguments);
        words
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect()
    }

    #[test]
    fn places_are_filled_in() {
        for (template, expected) in [
            ("{program} {arguments}", "<Program>|container|{town}"),
            (
                "podman run --name 'a {town}' -v {workspace}:{workspace}:Z {program} {arguments} --end",
                "podman|run|--name|a <Town>|-v|<Workspace>:<Workspace>:Z|<Program>|container|{town}|--end",
            ),
            (
                r"a\ b {run_dir}{token_file} {arguments}",
                "a b|<RunDir><TokenFile>|container|{town}",
            ),
            (
                "x --format {{.Id}} {} {A} {a-b {{town} {arguments}",
                "x|--format|{{.Id}}|{}|{A}|{a-b|{<Town>|container|{town}",
            ),
        ] {
            assert_eq!(filled(template).join("|"), expected);
        }
    }

    #[test]
    fn what_is_no_command_line_is_refused_in_words() {
        for (template, reason) in [
            ("", "must be a command line"),
            ("podman 'run {arguments}", "quotation mark"),
            ("podman run", "must have the word {arguments}"),
            ("{arguments} {arguments}", "must have the word {arguments}"),
            ("podman x{arguments} {arguments}", "within a word"),
            (
                "podman {socket} {arguments}",
                "has {socket}, which is none of {program}, {run_dir}",
            ),
        ] {
            let error = LauncherTemplate::parse(template).unwrap_err();
            assert!(error.contains(reason), "{template}: {error}");
        }
    }
}
