//! What the kernels hold, from `ip xfrm state`: independent of both programs' own view.

use std::collections::BTreeSet;

use crate::uml::Result;
use crate::uml::hosts::Namespace;

/// The SAs of one kernel: addresses, SPI, mode, algorithms and keys of each, in words. Two ends that agree hold equal sets.
pub(super) type Sad = BTreeSet<String>;

/// Reads the SAs of a host; larval states are left out.
pub(super) fn sad(host: &Namespace) -> Result<Sad> {
    Ok(parse(&host.exec("ip xfrm state")?))
}

/// The SPIs in a set of SAs.
pub(super) fn spis(sad: &Sad) -> BTreeSet<u32> {
    sad.iter().filter_map(|entry| spi(entry.split(' ').nth(2)?)).collect()
}

/// A hexadecimal SPI, with or without 0x.
pub(super) fn spi(text: &str) -> Option<u32> {
    u32::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}

fn parse(text: &str) -> Sad {
    let mut entries = Vec::<String>::new();
    let mut keyed = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["src", source, "dst", target] => {
                entries.push(format!("{source} {target}"));
                keyed.push(false);
            }
            ["proto", protocol, "spi", spi, rest @ ..] => {
                let mode = rest.iter().skip_while(|word| **word != "mode").nth(1).unwrap_or(&"");
                extend(&mut entries, &[spi, protocol, mode]);
            }
            [kind @ ("aead" | "auth" | "auth-trunc" | "enc"), rest @ ..] => {
                extend(&mut entries, &[kind]);
                extend(&mut entries, rest);
                if let Some(last) = keyed.last_mut() {
                    *last = true;
                }
            }
            // The words "anti-replay esn context" only tell how the window is kept.
            _ if words.contains(&"flag") && words.contains(&"esn") => extend(&mut entries, &["esn"]),
            _ => {}
        }
    }
    entries.into_iter().zip(keyed).filter(|(_, keyed)| *keyed).map(|(entry, _)| entry).collect()
}

fn extend(entries: &mut [String], words: &[&str]) {
    if let Some(last) = entries.last_mut() {
        for word in words {
            *last += " ";
            *last += word;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_sa_is_named_by_what_both_ends_must_share() {
        let text = "src 2001:db8::1 dst 2001:db8::2\n\tproto esp spi 0xc1a2b3c4 reqid 1 mode transport\n\treplay-window 0 \n\taead rfc4106(gcm(aes)) 0x0102 128\n\tanti-replay esn context:\n\t seq-hi 0x0, seq 0x0\n\tsel src 2001:db8::1/128 dst 2001:db8::2/128 \nsrc :: dst ::\n\tproto esp spi 0x00000000 reqid 2 mode transport\n";
        let sad = parse(text);
        assert_eq!(sad.iter().collect::<Vec<_>>(), ["2001:db8::1 2001:db8::2 0xc1a2b3c4 esp transport aead rfc4106(gcm(aes)) 0x0102 128"]);
        assert_eq!(spis(&sad), [0xc1a2_b3c4].into());
    }
}
