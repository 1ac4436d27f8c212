//! Python's `json.loads`, written down a second time: RFC 8259's grammar, with Python's numbers and strings. Strings
//! are code units, as unpaired surrogates stay in them.

/// A value, with equality as Python has it: by kind too.
#[derive(Debug, Clone)]
pub(crate) enum Py {
    None,
    Bool(bool),
    /// Its digits, any number of them.
    Int(String),
    Float(f64),
    Str(Vec<u16>),
    List(Vec<Py>),
    Dict(Vec<(Vec<u16>, Py)>),
}

impl PartialEq for Py {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Bool(one), Self::Bool(other)) => one == other,
            (Self::Int(one), Self::Int(other)) => one == other,
            // NaN is itself here, and -0.0 is not 0.0
            (Self::Float(one), Self::Float(other)) => one.to_bits() == other.to_bits(),
            (Self::Str(one), Self::Str(other)) => one == other,
            (Self::List(one), Self::List(other)) => one == other,
            (Self::Dict(one), Self::Dict(other)) => one == other,
            _ => false,
        }
    }
}

/// Levels that are read.
const DEPTH: usize = 127;

pub(crate) fn loads(text: &str) -> Option<Py> {
    let mut reader = Reader {
        rest: text,
        depth: DEPTH,
    };
    let value = reader.value()?;
    reader.space();
    reader.rest.is_empty().then_some(value)
}

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn take(&mut self, begin: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(begin)?;
        Some(())
    }

    /// The characters from here on that are such.
    fn run(&mut self, is_such: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !is_such(c)).unwrap_or(self.rest.len());
        let (run, rest) = self.rest.split_at(end);
        self.rest = rest;
        run
    }

    fn value(&mut self) -> Option<Py> {
        self.space();
        for (word, value) in [
            ("null", Py::None),
            ("true", Py::Bool(true)),
            ("false", Py::Bool(false)),
            ("NaN", Py::Float(f64::NAN)),
            ("Infinity", Py::Float(f64::INFINITY)),
            ("-Infinity", Py::Float(f64::NEG_INFINITY)),
        ] {
            if self.take(word).is_some() {
                return Some(value);
            }
        }
        match self.rest.chars().next()? {
            '"' => self.string().map(Py::Str),
            '[' => self.within(Self::list),
            '{' => self.within(Self::dict),
            _ => self.number(),
        }
    }

    fn within(&mut self, read: impl Fn(&mut Self) -> Option<Py>) -> Option<Py> {
        self.depth = self.depth.checked_sub(1)?;
        let value = read(self)?;
        self.depth += 1;
        Some(value)
    }

    fn number(&mut self) -> Option<Py> {
        let all = self.rest;
        let _ = self.take("-");
        let whole = self.run(|c| c.is_ascii_digit());
        if whole.is_empty() || (whole.len() > 1 && whole.starts_with('0')) {
            return None;
        }
        let mut is_float = false;
        if self.take(".").is_some() {
            is_float = true;
            (!self.run(|c| c.is_ascii_digit()).is_empty()).then_some(())?;
        }
        if self.take("e").or_else(|| self.take("E")).is_some() {
            is_float = true;
            let _ = self.take("-").or_else(|| self.take("+"));
            (!self.run(|c| c.is_ascii_digit()).is_empty()).then_some(())?;
        }
        let number = &all[..all.len() - self.rest.len()];
        Some(match is_float {
            true => Py::Float(number.parse().unwrap()),
            false => Py::Int(number.to_owned()),
        })
    }

    fn string(&mut self) -> Option<Vec<u16>> {
        self.take("\"")?;
        let mut units = Vec::new();
        loop {
            units.extend(
                self.run(|c| c >= ' ' && c != '"' && c != '\\')
                    .encode_utf16(),
            );
            if self.take("\"").is_some() {
                return Some(units);
            }
            self.take("\\")?;
            let escape = self.rest.chars().next()?;
            self.rest = &self.rest[escape.len_utf8()..];
            units.push(match escape {
                '"' | '\\' | '/' => escape as u16,
                'b' => 8,
                'f' => 12,
                'n' => 10,
                'r' => 13,
                't' => 9,
                'u' => {
                    let (digits, rest) = self.rest.split_at_checked(4)?;
                    let are_digits = digits.chars().all(|c| c.is_ascii_hexdigit());
                    self.rest = rest;
                    are_digits.then(|| u16::from_str_radix(digits, 16).unwrap())?
                }
                _ => return None,
            });
        }
    }

    fn list(&mut self) -> Option<Py> {
        self.take("[")?;
        let mut items = Vec::new();
        self.space();
        if self.take("]").is_some() {
            return Some(Py::List(items));
        }
        loop {
            items.push(self.value()?);
            self.space();
            if self.take("]").is_some() {
                return Some(Py::List(items));
            }
            self.take(",")?;
        }
    }

    fn dict(&mut self) -> Option<Py> {
        self.take("{")?;
        let mut members: Vec<(Vec<u16>, Py)> = Vec::new();
        self.space();
        if self.take("}").is_some() {
            return Some(Py::Dict(members));
        }
        loop {
            self.space();
            let name = self.string()?;
            self.space();
            self.take(":")?;
            let value = self.value()?;
            match members.iter_mut().find(|(other, _)| *other == name) {
                Some((_, other)) => *other = value,
                None => members.push((name, value)),
            }
            self.space();
            if self.take("}").is_some() {
                return Some(Py::Dict(members));
            }
            self.take(",")?;
        }
    }
}
