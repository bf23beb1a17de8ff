//! The little that is needed of ELF: reading a module's own description, and making a module cheaper to load.

use anyhow::{Context as _, bail};

const SIGNATURE_END: &[u8] = b"~Module signature appended~\n";

/// Where one section stands.
struct Section {
    /// Offset of its header.
    header: usize,
    name: String,
    offset: usize,
    size: usize,
}

/// A module's description: `depends`, `alias` and the like, in file order.
pub(crate) fn module_info(module: &[u8]) -> anyhow::Result<Vec<(String, String)>> {
    let section = sections(module)?
        .into_iter()
        .find(|section| section.name == ".modinfo")
        .context("a module without .modinfo")?;
    let bytes = module.get(section.offset..section.offset + section.size).context(".modinfo is cut off")?;
    Ok(bytes
        .split(|byte| *byte == 0)
        .filter_map(|entry| std::str::from_utf8(entry).ok()?.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect())
}

/// Drops what costs time at loading and helps nobody here: the signature, which this kernel does not demand, and
/// the type information for BPF, which it would parse.
pub(crate) fn slim(mut module: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    if module.ends_with(SIGNATURE_END) {
        let trailer = module.len() - SIGNATURE_END.len();
        // The last field of `struct module_signature`, just before the mark, is the signature's length.
        let length = module.get(trailer - 4..trailer).context("a cut-off signature")?;
        let length = u32::from_be_bytes(length.try_into()?) as usize;
        module.truncate(trailer.checked_sub(12 + length).context("a signature longer than its module")?);
    }
    for section in sections(&module)? {
        // Not `.BTF_ids`, which code refers to.
        if section.name == ".BTF" || section.name == ".BTF.base" {
            // An empty section is as good as none; zeros compress to nothing.
            module[section.offset..section.offset + section.size].fill(0);
            module[section.header + 32..section.header + 40].fill(0);
        }
    }
    Ok(module)
}

fn sections(file: &[u8]) -> anyhow::Result<Vec<Section>> {
    if !file.starts_with(b"\x7fELF\x02\x01") {
        bail!("this is no 64-bit little-endian ELF file");
    }
    let headers = number(file, 40, 8)?;
    let entry_size = number(file, 58, 2)?;
    let count = number(file, 60, 2)?;
    let names_index = number(file, 62, 2)?;
    if headers.saturating_add(count * entry_size) > file.len() {
        bail!("an ELF file is cut off");
    }
    let names = number(file, headers + names_index * entry_size + 24, 8)?;
    (0..count)
        .map(|index| {
            let header = headers + index * entry_size;
            let name = names + number(file, header, 4)?;
            let name = file.get(name..).and_then(|rest| rest.split(|byte| *byte == 0).next());
            let section = Section {
                header,
                name: String::from_utf8_lossy(name.context("a section without a name")?).into_owned(),
                offset: number(file, header + 24, 8)?,
                size: number(file, header + 32, 8)?,
            };
            let occupies_file = number(file, header + 4, 4)? != 8;
            if occupies_file && section.offset.saturating_add(section.size) > file.len() {
                bail!("section `{}` is cut off", section.name);
            }
            Ok(section)
        })
        .collect()
}

fn number(file: &[u8], at: usize, width: usize) -> anyhow::Result<usize> {
    let bytes = file.get(at..at + width).context("an ELF file is cut off")?;
    let mut wide = [0; 8];
    wide[..width].copy_from_slice(bytes);
    Ok(usize::try_from(u64::from_le_bytes(wide))?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A module with the given description, and type information.
    pub(crate) fn module(info: &str) -> Vec<u8> {
        let names = b"\0.modinfo\0.BTF\0.shstrtab\0.BTF_ids\0";
        let sections: [(u32, &[u8]); 5] =
            [(0, b""), (1, info.as_bytes()), (10, b"types"), (15, names), (25, b"numbers")];
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let mut headers = Vec::new();
        for (name, content) in sections {
            let mut header = [0; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[4] = u8::from(name != 0);
            header[24..32].copy_from_slice(&(file.len() as u64).to_le_bytes());
            header[32..40].copy_from_slice(&(content.len() as u64).to_le_bytes());
            headers.extend_from_slice(&header);
            file.extend_from_slice(content);
        }
        let start = file.len() as u64;
        file[40..48].copy_from_slice(&start.to_le_bytes());
        file[58] = 64;
        file[60] = 5;
        file[62] = 3;
        file.extend_from_slice(&headers);
        file
    }

    #[test]
    fn a_description_is_read() {
        let info = module_info(&module("depends=a,b\0alias=fs-x\0")).unwrap();
        assert_eq!(info, [("depends".into(), "a,b".into()), ("alias".into(), "fs-x".into())]);
    }

    #[test]
    fn slimming_drops_signature_and_types_and_keeps_the_rest() {
        let plain = module("depends=\0");
        let mut signed = plain.clone();
        signed.extend_from_slice(b"SIGNATURE");
        signed.extend_from_slice(&[0, 0, 2, 0, 0, 0, 0, 0]);
        signed.extend_from_slice(&9u32.to_be_bytes());
        signed.extend_from_slice(SIGNATURE_END);
        let slimmed = slim(signed).unwrap();
        assert_eq!(slimmed.len(), plain.len());
        let holds = |text: &[u8]| slimmed.windows(text.len()).any(|window| window == text);
        assert!(holds(b"numbers") && !holds(b"types"));
        assert_eq!(module_info(&slimmed).unwrap(), [("depends".into(), String::new())]);
    }

    #[test]
    fn a_cut_off_file_is_refused() {
        let file = module("depends=a\0");
        for length in 0..file.len() {
            assert!(module_info(&file[..length]).is_err(), "{length}");
        }
    }
}
