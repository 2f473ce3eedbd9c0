// SPDX-License-Identifier: Apache-2.0

//! Values of global variables, given as text (docs/reason-codes.md, "Values for `--set`").

use crate::btf::{self, Btf};

/// Returns the bytes of a value of a variable of `size` bytes, or what is wrong with the text.
///
/// `number` is the number of the variable's type; without one, the value must be a number.
pub fn encode(btf: &Btf, number: Option<u32>, size: usize, text: &str) -> Result<Vec<u8>, String> {
    let Some(number) = number else { return integer(size, false, true, text) };
    let Some(kind) = btf.underlying(number) else {
        return Err("a variable of this type can't be set".into());
    };
    match kind.kind {
        btf::INT => {
            let encoding = kind.extra.first().map_or(0, |word| word >> 24);
            let (signed, boolean) = (encoding & 1 != 0, encoding & 4 != 0);
            match (boolean, text) {
                (true, "true" | "1") => Ok(vec![1]),
                (true, "false" | "0") => Ok(vec![0]),
                (true, _) => Err("expected true or false".into()),
                (false, _) => integer(size, signed, false, text),
            }
        }
        btf::ENUM | btf::ENUM64 => {
            let words = if kind.kind == btf::ENUM { 2 } else { 3 };
            let value = kind.extra.chunks_exact(words).find(|c| btf.string(c[0]) == text);
            if let Some(value) = value {
                let high = value.get(2).copied().unwrap_or(0);
                let whole = u64::from(high) << 32 | u64::from(value[1]);
                return Ok(whole.to_le_bytes()[..size].to_vec());
            }
            integer(size, kind.flag, false, text)
        }
        btf::FLOAT if size == 4 => {
            let value: f32 = text.parse().map_err(|_| "expected a number")?;
            Ok(value.to_le_bytes().to_vec())
        }
        btf::FLOAT => {
            let value: f64 = text.parse().map_err(|_| "expected a number")?;
            Ok(value.to_le_bytes().to_vec())
        }
        btf::ARRAY => array(btf, kind.extra[0], size, text),
        _ => Err("a variable of this type can't be set".into()),
    }
}

fn array(btf: &Btf, element: u32, size: usize, text: &str) -> Result<Vec<u8>, String> {
    let kind = btf.underlying(element).ok_or("an array of this type can't be set")?;
    let each = btf.size(element).filter(|size| *size > 0);
    let each = each.ok_or("an array of this type can't be set")?;
    let is_text = kind.kind == btf::INT && each == 1 && btf.string(kind.name) == "char";
    let mut bytes = Vec::new();
    if is_text {
        bytes.extend(text.bytes());
    } else {
        for word in text.split(',') {
            bytes.extend(encode(btf, Some(element), each, word.trim())?);
        }
    }
    if bytes.len() > size {
        return Err(format!("it has room for {}", size / each));
    }
    bytes.resize(size, 0);
    Ok(bytes)
}

/// Encodes a number as C writes it, such as 10, -1 or 0x10.
///
/// An unsigned number may be negative only if `negative` is set.
fn integer(size: usize, signed: bool, negative: bool, text: &str) -> Result<Vec<u8>, String> {
    if !matches!(size, 1 | 2 | 4 | 8) {
        return Err(format!("a variable of {size} bytes can't be set without BTF"));
    }
    let signed = signed || (negative && text.starts_with('-'));
    let kind = if signed { "a number" } else { "an unsigned number" };
    let bits = 8 * size as u32;
    let value = parse(text).ok_or_else(|| format!("expected {kind}"))?;
    let range = if signed {
        -(1i128 << (bits - 1))..=(1i128 << (bits - 1)) - 1
    } else {
        0..=(1i128 << bits) - 1
    };
    if value < 0 && !signed {
        return Err(format!("expected {kind}"));
    }
    if !range.contains(&value) {
        return Err(format!("expected {kind} of {bits} bits"));
    }
    Ok(value.to_le_bytes()[..size].to_vec())
}

fn parse(text: &str) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let (base, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    Some(sign * i128::from_str_radix(digits, base).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(size: usize, signed: bool, text: &str) -> Result<Vec<u8>, String> {
        integer(size, signed, false, text)
    }

    #[test]
    fn numbers_are_as_in_c() {
        assert_eq!(number(4, false, "10").unwrap(), [10, 0, 0, 0]);
        assert_eq!(number(2, false, "0x10").unwrap(), [16, 0]);
        assert_eq!(number(1, false, "010").unwrap(), [8]);
        assert_eq!(number(2, true, "-1").unwrap(), [0xff, 0xff]);
        assert_eq!(number(8, false, "18446744073709551615").unwrap(), [0xff; 8]);
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert_eq!(number(1, false, "256").unwrap_err(), "expected an unsigned number of 8 bits");
        assert_eq!(number(1, true, "128").unwrap_err(), "expected a number of 8 bits");
        assert_eq!(number(4, false, "-1").unwrap_err(), "expected an unsigned number");
        for text in ["", "-", "0x", "--1", "+1", "1 ", "ten"] {
            assert!(number(4, true, text).is_err(), "{text:?}");
        }
        assert!(number(3, false, "1").is_err());
    }

    #[test]
    fn without_a_type_a_number_may_be_negative() {
        let none = Btf::default();
        assert_eq!(encode(&none, None, 4, "-2").unwrap(), [0xfe, 0xff, 0xff, 0xff]);
        assert_eq!(encode(&none, None, 4, "4294967295").unwrap(), [0xff; 4]);
    }
}
