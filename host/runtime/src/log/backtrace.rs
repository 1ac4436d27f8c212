//! A guest's stack, as a traceback shows it.

use std::fmt::{self, Write};

use rustc_demangle::demangle;
use wasmtime::{FrameInfo, WasmBacktrace};

/// The stack with Rust's names as they are in the source, `limit` bytes of it at most. wasmtime's own way
/// has no bound: names are of the guest's choice, and a mangled one may stand for a megabyte.
///
/// Files and lines are left out for that reason: reading DWARF of a guest's choice takes unbounded time and memory.
pub(crate) fn backtrace(stack: &WasmBacktrace, limit: usize) -> String {
    let mut shown = Bounded {
        text: String::new(),
        limit,
    };
    // it fails where it is full
    let _ = write_frames(&mut shown, stack.frames());
    shown.text
}

fn write_frames(out: &mut Bounded, frames: &[FrameInfo]) -> fmt::Result {
    out.write_str("wasm stack:")?;
    for (index, frame) in frames.iter().enumerate() {
        write!(out, "\n  {index:>3}: ")?;
        if let Some(offset) = frame.module_offset() {
            write!(out, "{offset:#8x} - ")?;
        }
        write!(out, "{}!", frame.module().name().unwrap_or("<unknown>"))?;
        match frame.func_name() {
            // without the hash
            Some(name) => write!(out, "{:#}", demangle(name))?,
            None => write!(out, "<wasm function {}>", frame.func_index())?,
        }
    }
    Ok(())
}

struct Bounded {
    text: String,
    limit: usize,
}

impl Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = self.limit.saturating_sub(self.text.len());
        let (fits, rest) = more.split_at(more.floor_char_boundary(room));
        self.text.push_str(fits);
        if rest.is_empty() {
            Ok(())
        } else {
            Err(fmt::Error)
        }
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    /// 30 bytes that stand for 4 GiB: each tuple holds the one before twice.
    #[test]
    fn a_name_that_grows_is_cut() {
        let mut name = "_RIC1a".to_owned();
        let mut last = "h".to_owned();
        for _ in 0..32 {
            let at = base_62(name.len() - 2);
            name.push_str(&format!("T{last}{last}E"));
            last = format!("B{at}_");
        }
        name.push('E');
        let mut shown = Bounded {
            text: String::new(),
            limit: 100,
        };
        assert!(
            write!(shown, "{:#}", demangle(&name)).is_err(),
            "{}",
            shown.text
        );
        assert_eq!(shown.text.len(), 100);
    }

    fn base_62(number: usize) -> String {
        let digit = |n: usize| {
            char::from(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[n])
        };
        let number = number - 1;
        format!("{}{}", digit(number / 62), digit(number % 62))
            .trim_start_matches('0')
            .to_owned()
    }
}
