//! A worker's id, where the configuration names none.

/// Places that name the host, best first: the name of a pod, then what shells and containers set.
const VARIABLES: [&str; 2] = ["POD_NAME", "HOSTNAME"];

/// Where Linux keeps the host's name.
const FILE: &str = "/etc/hostname";

/// More of a host's name than tells hosts apart only makes tables wide.
const HOST_CHARS: usize = 40;

/// The host's name and eight random digits, so that a worker that starts anew is a new one to its fleet.
pub(super) fn worker_id() -> String {
    let variable = |name: &&str| std::env::var(name).ok();
    let file = || std::fs::read_to_string(FILE).ok();
    let host = VARIABLES.iter().find_map(variable).or_else(file);
    format!("{}-{:08x}", host_part(host.as_deref()), fastrand::u32(..))
}

/// A name for the session of an assumed role, by which the account's audit log tells workers apart. It takes 2 to 64
/// of these characters.
pub(super) fn session_name(worker: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "+=,.@-_".contains(c);
    let worker: String = worker.chars().map(|c| if allowed(c) { c } else { '-' }).collect();
    let name = format!("dynamirror-{worker}");
    name[..name.len().min(64)].to_owned()
}

/// The host's own name without its domain, in plain characters.
fn host_part(host: Option<&str>) -> String {
    let name = host.unwrap_or_default().trim();
    let name = name.split('.').next().unwrap_or_default();
    let plain = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' });
    let plain: String = plain.take(HOST_CHARS).collect();
    match plain.trim_matches('-') {
        "" => "worker".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_gives_its_short_name() {
        assert_eq!(host_part(Some("ip-10-0-0-1.eu-west-1.compute.internal\n")), "ip-10-0-0-1");
        assert_eq!(host_part(Some("")), "worker");
        assert_eq!(host_part(None), "worker");
        assert_eq!(host_part(Some("böse/ #")), "b-se");
    }

    #[test]
    fn two_starts_are_two_workers() {
        assert_ne!(worker_id(), worker_id());
    }

    #[test]
    fn a_session_name_is_what_the_service_takes() {
        assert_eq!(session_name("host-1/x"), "dynamirror-host-1-x");
        assert_eq!(session_name(&"ü".repeat(100)).len(), 64);
    }
}
