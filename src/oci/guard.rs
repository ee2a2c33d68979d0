//! Which addresses may be asked. Images, redirects and token realms are written by others, who could make this process ask its
//! own machine, its neighbours on the link, or the metadata service of its cloud. Such an address is asked only if the operator
//! names the host under `registries`. Private networks are allowed: companies keep their registries there.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Where an address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Locality {
    /// This machine, by its loopback addresses.
    Loopback,
    /// A place where no registry can be, named for messages.
    Internal(&'static str),
    /// Any other place.
    Elsewhere,
}

/// Metadata services outside of the link-local ranges.
const METADATA: [(IpAddr, u8); 6] = [
    // Alibaba Cloud
    (IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)), 32),
    // Oracle Cloud
    (IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)), 32),
    // Azure's wire server
    (IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)), 32),
    // AWS: instance metadata, DNS, time, and the credentials of EKS Pods
    (
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0)),
        32,
    ),
    // Google Cloud
    (
        IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0)),
        32,
    ),
    // Scaleway
    (
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0)),
        32,
    ),
];

/// Names of metadata services; a proxy would resolve them for this process.
const METADATA_NAMES: [&str; 6] = [
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "metadata.azure.internal",
    "instance-data",
    "instance-data.ec2.internal",
];

/// Where a URL's host leads, as far as that is known without resolving it. URLs are parsed as browsers do, so `0x7f.1` and
/// `2130706433` are addresses here too.
pub(super) fn locality_of(url: &Url) -> Locality {
    match url.host() {
        Some(Host::Ipv4(address)) => locality_of_address(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => locality_of_address(IpAddr::V6(address)),
        Some(Host::Domain(name)) => locality_of_name(name),
        None => Locality::Internal("no host"),
    }
}

fn locality_of_name(name: &str) -> Locality {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    if METADATA_NAMES.contains(&name.as_str()) {
        return Locality::Internal("a metadata service");
    }
    // RFC 6761 reserves all of `localhost` for loopback.
    match name.rsplit('.').next() {
        Some("localhost") => Locality::Loopback,
        _ => Locality::Elsewhere,
    }
}

/// Where an address leads. An address that carries another one (mapped, translated, tunnelled) leads where the inner one does.
pub(super) fn locality_of_address(address: IpAddr) -> Locality {
    let metadata = METADATA
        .iter()
        .any(|(network, length)| within(address, *network, *length));
    if metadata {
        return Locality::Internal("the address of a metadata service");
    }
    match address {
        IpAddr::V4(address) if address.is_loopback() => Locality::Loopback,
        IpAddr::V4(address) if address.is_link_local() => {
            Locality::Internal("a link-local address")
        }
        IpAddr::V4(address) if address.octets().first() == Some(&0) => {
            Locality::Internal("an address of no host")
        }
        IpAddr::V4(address) if address.is_multicast() || address.is_broadcast() => {
            Locality::Internal("a multicast or broadcast address")
        }
        IpAddr::V6(address) if address.is_loopback() => Locality::Loopback,
        IpAddr::V6(address) if address.is_unspecified() => {
            Locality::Internal("an address of no host")
        }
        IpAddr::V6(address) if address.is_unicast_link_local() => {
            Locality::Internal("a link-local address")
        }
        IpAddr::V6(address) if address.is_multicast() => Locality::Internal("a multicast address"),
        IpAddr::V6(address) => {
            let inner = carried(address).into_iter().flatten();
            let mut places = inner.map(|inner| locality_of_address(IpAddr::V4(inner)));
            let inward = places.find(|place| *place != Locality::Elsewhere);
            inward.unwrap_or(Locality::Elsewhere)
        }
        IpAddr::V4(_) => Locality::Elsewhere,
    }
}

/// The IPv4 addresses that an IPv6 address can carry.
fn carried(address: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let joined =
        |high: u16, low: u16| Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match (a, b, c, d, e, f) {
        // IPv4-compatible, mapped, and translated (RFC 2765)
        (0, 0, 0, 0, 0, 0 | 0xffff) | (0, 0, 0, 0, 0xffff, 0) => [joined(g, h), None],
        // NAT64 by the well-known prefix, and by the local one with either of its usual lengths (RFC 6052, RFC 8215)
        (0x64, 0xff9b, 0, 0, 0, 0) | (0x64, 0xff9b, 1, 0, 0, 0) => [joined(g, h), None],
        (0x64, 0xff9b, 1, ..) => {
            let last = joined(g, h).filter(|_| (g, h) != (0, 0));
            [joined(d, e << 8 | f >> 8), last]
        }
        // 6to4
        (0x2002, ..) => [joined(b, c), None],
        // Teredo carries it inverted
        (0x2001, 0, ..) => [joined(!g, !h), None],
        // ISATAP
        (_, _, _, _, 0 | 0x200, 0x5efe) => [joined(g, h), None],
        _ => [None, None],
    }
}

fn within(address: IpAddr, network: IpAddr, length: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let shift = u32::from(32_u8.saturating_sub(length));
            (address.to_bits() ^ network.to_bits()).checked_shr(shift) == Some(0)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let shift = u32::from(128_u8.saturating_sub(length));
            (address.to_bits() ^ network.to_bits()).checked_shr(shift) == Some(0)
        }
        _ => false,
    }
}

/// Why a host is not asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    host: String,
    why: String,
}

impl Refused {
    pub(super) fn new(host: &str, place: Locality) -> Refused {
        let why = match place {
            Locality::Loopback => "is this machine (loopback)".to_owned(),
            Locality::Internal(what) => format!("is {what}"),
            Locality::Elsewhere => "is not asked".to_owned(),
        };
        Refused {
            host: host.to_owned(),
            why,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refused { host, why } = self;
        write!(
            f,
            "not asked, because `{host}` {why}; name it as a `host` under `registries` in the configuration to allow it"
        )
    }
}

impl std::error::Error for Refused {}

/// Names with known addresses, which take precedence over DNS.
pub(super) type Hosts = Arc<BTreeMap<String, Vec<IpAddr>>>;

/// Resolves names without the addresses that may not be asked. A name is checked by its addresses at the moment of the
/// connection, so it cannot lead elsewhere after the check.
#[derive(Clone)]
pub(super) struct Guarded {
    pub(super) hosts: Hosts,
    /// Whether the operator names the host, so that all its addresses may be asked.
    pub(super) any: bool,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let Guarded { hosts, any } = self.clone();
        Box::pin(async move {
            let name = name.as_str();
            let found: Vec<SocketAddr> = match hosts.get(name) {
                Some(known) => known.iter().map(|ip| SocketAddr::new(*ip, 0)).collect(),
                None => super::dns::look_up(name.to_owned()).await?,
            };
            // A URL with such a name is refused before, unless the operator allows it; here it is the name of a proxy.
            if any || locality_of_name(name) == Locality::Loopback {
                return Ok(Box::new(found.into_iter()) as Addrs);
            }
            let mut refused = None;
            let mut allowed = Vec::new();
            for address in found {
                match locality_of_address(address.ip()) {
                    Locality::Elsewhere => allowed.push(address),
                    place => refused = Some(Refused::new(name, place)),
                }
            }
            match (allowed.is_empty(), refused) {
                (true, Some(refused)) => Err(refused.into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(host: &str) -> Locality {
        locality_of(&Url::parse(&format!("http://{host}/")).unwrap())
    }

    #[test]
    fn loopback_is_known_in_every_spelling() {
        for host in [
            "localhost",
            "LOCALHOST:5000",
            "localhost.",
            "kind.localhost",
            "127.0.0.1",
            "127.1:80",
            "127.255.255.254",
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
            "0x7F000001",
            "127.0.0.1.",
            "１２７.０.０.１",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::127.0.0.1]",
            "[64:ff9b::127.0.0.1]",
            "[64:ff9b:1::127.0.0.1]",
            "[64:ff9b:1:7f00:0:100::]",
            "[64:ff9b:1:808:8:800:7f00:1]",
            "[::ffff:0:127.0.0.1]",
            "[2002:7f00:1::]",
            "[2001:0:1::80ff:fffe]",
            "[fe00::5efe:127.0.0.1]",
        ] {
            assert_eq!(place(host), Locality::Loopback, "{host}");
        }
    }

    #[test]
    fn metadata_addresses_are_recognised_in_every_spelling() {
        for host in [
            "169.254.169.254",
            "169.254.170.2",
            "169.254.0.1:5000",
            "2852039166",
            "0xa9fea9fe",
            "0251.0376.0251.0376",
            "[::ffff:169.254.169.254]",
            "[::ffff:a9fe:a9fe]",
            "[64:ff9b::a9fe:a9fe]",
            "[fe80::1]",
            "[febf::1]",
            "[fd00:ec2::254]",
            "[fd00:ec2::23]",
            "[fd20:ce::254]",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "metadata.google.internal",
            "METADATA.google.internal.",
            "metadata.goog",
            "metadata",
            "instance-data.ec2.internal",
            "0.0.0.0",
            "0",
            "0.1.2.3",
            "[::]",
            "[::ffff:0.0.0.0]",
            "224.0.0.1",
            "255.255.255.255",
            "[ff02::1]",
        ] {
            assert!(matches!(place(host), Locality::Internal(_)), "{host}");
        }
    }

    #[test]
    fn public_and_private_registries_stay_where_they_are() {
        for host in [
            "ghcr.io",
            "10.0.0.5:5000",
            "172.16.1.1",
            "192.168.1.10",
            "100.64.0.1",
            "100.100.100.201",
            "8.8.8.8",
            "[fc00::1]",
            "[fd00:abcd::1]",
            "[2001:db8::1]",
            "[2606:4700::1111]",
            "[64:ff9b::8.8.8.8]",
            "[64:ff9b:1::8.8.8.8]",
            "[64:ff9b:1:808:8:800::]",
            "localhost.example.com",
            "metadata.example.com",
            "notlocalhost",
        ] {
            assert_eq!(place(host), Locality::Elsewhere, "{host}");
        }
    }

    async fn resolved(addresses: &[&str], any: bool) -> Result<Vec<SocketAddr>, String> {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let guarded = Guarded {
            hosts: Arc::new(BTreeMap::from([("name.example".to_owned(), addresses)])),
            any,
        };
        let found = guarded.resolve("name.example".parse().unwrap()).await;
        found
            .map(Iterator::collect)
            .map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_name_leads_to_none_of_the_addresses_that_are_not_asked() {
        let only = resolved(&["169.254.169.254"], false).await.unwrap_err();
        assert!(only.contains("`name.example` is a link-local"), "{only}");
        let mixed = resolved(&["127.0.0.1", "10.0.0.1", "fd00:ec2::254"], false).await;
        assert_eq!(mixed, Ok(vec!["10.0.0.1:0".parse().unwrap()]));
        let named = resolved(&["127.0.0.1"], true).await;
        assert_eq!(named.unwrap().len(), 1);
    }
}
