// SPDX-License-Identifier: Apache-2.0

//! The types and names in an object's BTF, which the library keeps to itself.
//!
//! The format is described in the kernel's Documentation/bpf/btf.rst.

/// A type. Names are offsets of strings; types are numbers, with 0 for `void`.
#[derive(Clone, Debug)]
pub struct Type {
    pub name: u32,
    pub kind: u32,
    /// `kind_flag` of the type's `info`.
    pub flag: bool,
    /// The size in bytes, or the number of another type.
    pub size_or_type: u32,
    /// The words that follow, such as the values of an enumeration.
    pub extra: Vec<u32>,
}

pub const INT: u32 = 1;
pub const ARRAY: u32 = 3;
pub const ENUM: u32 = 6;
pub const TYPEDEF: u32 = 8;
pub const VOLATILE: u32 = 9;
pub const CONST: u32 = 10;
pub const RESTRICT: u32 = 11;
pub const VAR: u32 = 14;
pub const FLOAT: u32 = 16;
pub const TYPE_TAG: u32 = 18;
pub const ENUM64: u32 = 19;

#[derive(Debug, Default)]
pub struct Btf {
    types: Vec<Type>,
    strings: Vec<u8>,
}

impl Btf {
    /// Reads BTF of this machine's byte order; what can't be read is left out.
    pub fn parse(data: &[u8]) -> Self {
        let mut btf = Self::default();
        let header = |at| word(data, at).map(|value| value as usize);
        let (Some(length), Some(type_at), Some(type_length), Some(string_at), Some(string_length)) =
            (header(4), header(8), header(12), header(16), header(20))
        else {
            return btf;
        };
        let part = |at: usize, size: usize| {
            let start = length.checked_add(at)?;
            data.get(start..start.checked_add(size)?)
        };
        btf.strings = part(string_at, string_length).unwrap_or_default().to_vec();
        let types = part(type_at, type_length).unwrap_or_default();
        let mut at = 0;
        while let (Some(name), Some(info), Some(size_or_type)) =
            (word(types, at), word(types, at + 4), word(types, at + 8))
        {
            let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
            let words = match kind {
                INT | VAR | 17 => 1, // 17: DECL_TAG
                ARRAY => 3,
                4 | 5 | 15 | ENUM64 => 3 * count, // STRUCT, UNION, DATASEC
                ENUM | 13 => 2 * count,           // 13: FUNC_PROTO
                _ => 0,
            };
            let extra = (0..words).map_while(|i| word(types, at + 12 + 4 * i)).collect();
            btf.types.push(Type { name, kind, flag: info >> 31 != 0, size_or_type, extra });
            at += 12 + 4 * words;
        }
        btf
    }

    /// Returns the string at an offset, or an empty one.
    pub fn string(&self, offset: u32) -> String {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        String::from_utf8_lossy(&rest[..end]).into_owned()
    }

    pub fn by_number(&self, number: u32) -> Option<&Type> {
        self.types.get((number as usize).checked_sub(1)?)
    }

    /// Returns a type without its typedefs and qualifiers.
    pub fn underlying(&self, number: u32) -> Option<&Type> {
        let mut found = self.by_number(number)?;
        for _ in 0..self.types.len() {
            match found.kind {
                TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => {
                    found = self.by_number(found.size_or_type)?;
                }
                _ => return Some(found),
            }
        }
        None
    }

    /// Returns the number of the type of a global variable.
    pub fn variable(&self, name: &str) -> Option<u32> {
        let is_it = |t: &&Type| t.kind == VAR && self.string(t.name) == name;
        self.types.iter().find(is_it).map(|t| t.size_or_type)
    }

    /// Returns the size of a type in bytes.
    pub fn size(&self, number: u32) -> Option<usize> {
        let found = self.underlying(number)?;
        match found.kind {
            ARRAY => Some(self.size(found.extra[0])? * found.extra[2] as usize),
            2 => Some(8), // PTR
            _ => Some(found.size_or_type as usize),
        }
    }
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(data.get(at..at + 4)?.try_into().ok()?))
}

/// Returns the words of each record of struct bpf_line_info or bpf_func_info.
pub fn records((data, size): &(Vec<u8>, usize)) -> Vec<Vec<u32>> {
    if *size == 0 {
        return Vec::new();
    }
    let words = |record: &[u8]| (0..size / 4).filter_map(|i| word(record, 4 * i)).collect();
    data.chunks_exact(*size).map(words).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BTF with `typedef int number; volatile number limit;` and `int values[3];`.
    fn sample() -> Btf {
        let strings = b"\0int\0number\0limit\0values\0";
        let types: Vec<u32> = [
            vec![1, INT << 24, 4, 1 << 24 | 32], // 1: a signed int of 32 bits
            vec![5, TYPEDEF << 24, 1],           // 2
            vec![0, VOLATILE << 24, 2],          // 3
            vec![12, VAR << 24, 3, 1],           // 4
            vec![0, ARRAY << 24, 0, 1, 1, 3],    // 5
            vec![18, VAR << 24, 5, 1],           // 6
        ]
        .concat();
        let types: Vec<u8> = types.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let sizes = [24, 0, types.len(), types.len(), strings.len()];
        let mut data = vec![0x9f, 0xeb, 1, 0];
        data.extend(sizes.iter().flat_map(|size| (*size as u32).to_ne_bytes()));
        data.extend(types);
        data.extend(strings);
        Btf::parse(&data)
    }

    #[test]
    fn variables_have_their_types_without_qualifiers() {
        let btf = sample();
        let number = btf.variable("limit").unwrap();
        assert_eq!(btf.underlying(number).unwrap().kind, INT);
        assert_eq!(btf.size(number), Some(4));
        assert_eq!(btf.size(btf.variable("values").unwrap()), Some(12));
        assert_eq!(btf.variable("number"), None);
    }

    #[test]
    fn damaged_btf_has_no_types() {
        for length in 0..24 {
            assert!(Btf::parse(&vec![0xff; length]).by_number(1).is_none());
        }
        assert!(Btf::parse(&[0xff; 64]).by_number(1).is_none());
    }
}
