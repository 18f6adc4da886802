//! Cause codes: one stable code per cause, the same in log, JSON, command line and book.
//! Invariant: a code is never given to another cause.

use std::fmt;

/// Why something was refused, dropped or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cause {
    /// Stable code, for example `IKE-N01`.
    pub code: &'static str,
    /// What happened, as a sentence.
    pub sentence: &'static str,
    /// What to change.
    pub help: &'static str,
}

macro_rules! causes {
    ($($name:ident $code:literal $sentence:literal $help:literal;)*) => {
        impl Cause {
            $(#[doc = $sentence]
            pub const $name: Self = Self { code: $code, sentence: $sentence, help: $help };)*

            /// Every cause, in the order of the book.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

causes! {
    SUITES_DIFFER "IKE-N01" "No IKE proposal is acceptable to both sides." "Compare `ike` of this remote with the peer's proposals; one cipher, PRF, integrity and group must be common.";
    CHILD_SUITES_DIFFER "IKE-N02" "No ESP proposal is acceptable to both sides." "Compare `esp` of this policy with the peer's proposals.";
    NO_REMOTE "IKE-N03" "No remote of the configuration fits this peer." "Check `remote_address`, `allowed_from` and the identities of the remotes.";
    AUTHENTICATION_FAILED "IKE-A01" "The peer could not prove its identity." "Most likely the pre-shared keys differ; compare them on both sides.";
    IDENTITY_UNKNOWN "IKE-A02" "The peer proved an identity that no remote names." "Compare `remote_identity` with the identity in this message.";
    TRAFFIC_UNACCEPTABLE "IKE-T01" "No policy covers the traffic the peer asked for." "Compare the policy's selectors with the two columns in this message.";
    NOT_AUTHORISED "IKE-T02" "The identity may not hold SAs for these addresses." "Add the address to this identity's entry, or refuse the peer.";
    PEER_SILENT "IKE-L01" "The peer did not answer." "Check the route, UDP ports 500 and 4500, and whether the peer's daemon runs.";
    MALFORMED "IKE-M01" "A message could not be read." "The peer, or somebody on the path, sent garbage; nothing was changed.";
    INTEGRITY "IKE-M02" "A message failed its integrity check and was dropped." "Forged, damaged, or from an IKE SA that one side has lost.";
    KERNEL_REFUSED "IKE-K01" "The kernel refused a request." "Read the kernel's words in this message.";
    HALF_OPEN_LIMIT "IKE-D01" "Too many half-open IKE SAs: a request was dropped." "Under attack, or raise `half_open_limit`.";
    PEER_CLOSED "IKE-C01" "The peer closed the SA." "Nothing to do unless it was unexpected.";
    OPERATOR "IKE-C02" "The operator closed the SA." "Nothing to do.";
    EXPIRED "IKE-C03" "The SA reached its lifetime." "Nothing to do; a replacement should have stood before.";
    REPLACED "IKE-C04" "A newer SA took its place." "Nothing to do.";
    TRANSPORT_REFUSED "IKE-T03" "The peer does not agree to the policy's mode." "Set the same mode, transport or tunnel, on both sides.";
    PEER_RESTARTED "IKE-C05" "The peer lost its state and started afresh." "Nothing to do.";
    PEER_REFUSED "IKE-P01" "The peer refused with an error notification." "Its log holds the reason; ours lists what was offered.";
    KEY_MOBILITY_OFF "IKE-C06" "The K bit is clear: IKE SAs do not follow this movement and were given up." "Nothing to do, new ones are made; to keep them set `KeyMngMobCapability` of the Mobile IPv6 daemons on both sides.";
    MOVEMENT_DOUBTED "IKE-V01" "A MIGRATE is not believed: no protected binding update stands behind it." "Most likely a binding update without IPsec slipped past a policy for a Mobility Header type: use `IPsecPolicy Mh` in mip6d.conf and `binding_selector = \"any\"`, an any-type policy, which closes this hole.";
    MOVEMENT_REFUTED "IKE-V02" "A movement was forged or is over: the peer answers where it was." "IKE stays there, but the kernel's tunnels may lead elsewhere: use any-type policies for the Mobility Header (`IPsecPolicy Mh` in mip6d.conf).";
    MOVEMENT_UNDECIDED "IKE-V03" "Where a peer is could not be learnt: it answered neither where it was nor where MIGRATE said." "IKE stays where it was; whatever it asks next shows whether the peer lives.";
    MOVEMENTS_UNVERIFIED "IKE-V04" "Policies for a Mobility Header type let binding updates without IPsec pass, and every MIGRATE is believed." "Use any-type policies (`binding_selector = \"any\"`, `IPsecPolicy Mh` in mip6d.conf), which close the hole, or `key_mobility = \"observe\"`.";
    HOME_ADDRESS "IKE-B01" "No home address was assigned." "On the home agent look at `pool`, `home_prefix` and `autoconfiguration`; on the mobile node at `home_address`.";
    REDIRECTED "IKE-R01" "The peer sent us on to another gateway." "Nothing to do; `follow_redirects` says which redirects are followed.";
    REDIRECT_REFUSED "IKE-R02" "A redirect was not followed." "Look at `follow_redirects`, at the addresses listed for this peer and at `gateway_names`; a loop is to be mended on the gateways.";
    HOME_AGENT_SWITCH "IKE-R03" "The home agent or its mobility daemon chose another home agent." "Nothing to do; the Mobile IPv6 daemon registers with the new one.";
    SESSION_REDIRECTED "IKE-R04" "The peer sent a session that stood on to another gateway." "SAs move, registrations of Mobile IPv6 do not: those follow a Home Agent Switch message.";
    SWITCH_IGNORED "IKE-R05" "A Home Agent Switch message was ignored." "Look at the home agents listed for this mobile node and at `follow_redirects`.";
    UNEXPECTED "IKE-M03" "A message does not fit the state of its exchange and was dropped." "Nothing was changed.";
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.sentence)
    }
}
