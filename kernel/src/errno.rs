//! Error numbers in words. Within this project they are Linux's; a kernel that numbers otherwise is read through its [`Numbering`].

/// Whose error numbers a kernel uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numbering {
    /// Linux.
    #[default]
    Linux,
    /// FreeBSD, NetBSD and OpenBSD, as far as they agree.
    Bsd,
}

/// Linux's number and the BSDs', where they differ; up to 34 only these two do.
const DIFFERENT: &[(i32, u8)] = &[
    (EDEADLK, 11),
    (EAGAIN, 35),
    (ENOPROTOOPT, 42),
    (EPROTONOSUPPORT, 43),
    (EOPNOTSUPP, 45),
    (EAFNOSUPPORT, 47),
    (ENOBUFS, 55),
    (ETIMEDOUT, 60),
    (ENOSYS, 78),
];
/// The highest number that both have, EAGAIN and EDEADLK apart.
const LAST_COMMON: u8 = 34;
/// From here on stand the numbers of other systems that have none in Linux here, so that none is taken for another.
pub const FOREIGN: i32 = 10_000;

impl Numbering {
    /// Linux's number for one of this system; `FOREIGN` more than it was if it has none here.
    #[must_use]
    pub fn read(self, errno: u8) -> i32 {
        let raw = i32::from(errno);
        let listed = || DIFFERENT.iter().find(|(_, theirs)| *theirs == errno).map(|(ours, _)| *ours);
        match self {
            Self::Linux => raw,
            Self::Bsd => listed().unwrap_or(if errno <= LAST_COMMON { raw } else { FOREIGN.saturating_add(raw) }),
        }
    }

    /// This system's number for one of Linux; EINVAL if it has none.
    #[must_use]
    pub fn write(self, errno: i32) -> u8 {
        let listed = DIFFERENT.iter().find(|(ours, _)| self == Self::Bsd && *ours == errno).map(|(_, theirs)| *theirs);
        let common = || u8::try_from(errno).ok().filter(|raw| self == Self::Linux || (*raw <= LAST_COMMON && errno != EAGAIN));
        listed.or_else(common).unwrap_or(22)
    }
}

/// The symbolic name and the meaning of an errno value, as IPsec requests meet it.
#[must_use]
pub const fn in_words(errno: i32) -> &'static str {
    match errno {
        EPERM => "EPERM, not permitted: CAP_NET_ADMIN is missing",
        ENOENT => "ENOENT, there is no such policy, SA, algorithm or template",
        ESRCH => "ESRCH, there is no such SA",
        EINTR => "EINTR, the tables changed under every attempt to read them",
        EAGAIN => "EAGAIN, the kernel could not do it at once",
        ENOMEM => "ENOMEM, the kernel has no memory left",
        EACCES => "EACCES, not permitted",
        EBUSY => "EBUSY, another dump is running",
        EEXIST => "EEXIST, it is there already",
        EINVAL => "EINVAL, the kernel finds the request senseless",
        ENOSYS => "ENOSYS, an algorithm is not in this kernel or its module is not loaded",
        ENODATA => "ENODATA, no template or SA matches",
        ETIMEDOUT => "ETIMEDOUT, no answer came",
        EPROTONOSUPPORT => "EPROTONOSUPPORT, the protocol is not in this kernel or its module is not loaded",
        EAFNOSUPPORT => "EAFNOSUPPORT, the address family is not in this kernel or its module is not loaded",
        ENOPROTOOPT => "ENOPROTOOPT, this kernel was built without it",
        ENOBUFS => "ENOBUFS, the kernel has no buffer left",
        EOPNOTSUPP => "EOPNOTSUPP, this kernel does not support it",
        ERANGE => "ERANGE, a value is out of range",
        EDEADLK => "EDEADLK, it would wait for itself",
        _ => "an error without a name here",
    }
}

/// Error 1.
pub const EPERM: i32 = 1;
/// Error 2.
pub const ENOENT: i32 = 2;
/// Error 3.
pub const ESRCH: i32 = 3;
/// Error 4.
pub const EINTR: i32 = 4;
/// Error 11.
pub const EAGAIN: i32 = 11;
/// Error 12.
pub const ENOMEM: i32 = 12;
/// Error 13.
pub const EACCES: i32 = 13;
/// Error 16.
pub const EBUSY: i32 = 16;
/// Error 17.
pub const EEXIST: i32 = 17;
/// Error 22.
pub const EINVAL: i32 = 22;
/// Error 34.
pub const ERANGE: i32 = 34;
/// Error 35.
pub const EDEADLK: i32 = 35;
/// Error 38.
pub const ENOSYS: i32 = 38;
/// Error 61.
pub const ENODATA: i32 = 61;
/// Error 92.
pub const ENOPROTOOPT: i32 = 92;
/// Error 93.
pub const EPROTONOSUPPORT: i32 = 93;
/// Error 95.
pub const EOPNOTSUPP: i32 = 95;
/// Error 97.
pub const EAFNOSUPPORT: i32 = 97;
/// Error 105.
pub const ENOBUFS: i32 = 105;
/// Error 110.
pub const ETIMEDOUT: i32 = 110;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_freebsd_are_read_as_what_they_mean() {
        // sys/errno.h of FreeBSD.
        for (raw, ours) in
            [(2, ENOENT), (17, EEXIST), (22, EINVAL), (35, EAGAIN), (11, EDEADLK), (55, ENOBUFS), (60, ETIMEDOUT), (78, ENOSYS)]
        {
            assert_eq!(Numbering::Bsd.read(raw), ours, "{raw}");
            assert_eq!(Numbering::Bsd.write(ours), raw, "{ours}");
        }
        for raw in [2, 11, 35, 55, 61, 105, 110] {
            assert_eq!((Numbering::Linux.read(raw), Numbering::Linux.write(raw.into())), (raw.into(), raw));
        }
        // ECONNREFUSED there; Linux's 61 is ENODATA, as which it must not be taken.
        assert_eq!(Numbering::Bsd.read(61), FOREIGN + 61);
        assert_eq!(in_words(Numbering::Bsd.read(61)), "an error without a name here");
        assert!(in_words(Numbering::Bsd.read(55)).starts_with("ENOBUFS"));
        assert_eq!((Numbering::Bsd.write(ENODATA), Numbering::Bsd.write(EPERM)), (22, 1));
    }

    #[test]
    fn no_two_numbers_of_a_system_mean_the_same() {
        let read: std::collections::BTreeSet<i32> = (0..=u8::MAX).map(|raw| Numbering::Bsd.read(raw)).collect();
        assert_eq!(read.len(), 256);
    }
}
