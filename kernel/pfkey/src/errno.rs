//! Error numbers in words. PF_KEY gives nothing but the number.

/// The symbolic name and the meaning of an errno value, as PF_KEY requests meet it.
pub(crate) const fn in_words(errno: i32) -> &'static str {
    match errno {
        EPERM => "EPERM, not permitted: CAP_NET_ADMIN is missing",
        ENOENT => "ENOENT, there is no such policy or SA",
        ESRCH => "ESRCH, there is no such SA",
        ENOMEM => "ENOMEM, the kernel has no memory left",
        EBUSY => "EBUSY, another dump is running",
        EEXIST => "EEXIST, it is there already",
        EINVAL => "EINVAL, the kernel finds the request senseless",
        ENOSYS => "ENOSYS, an algorithm is not in this kernel or its module is not loaded",
        ENODATA => "ENODATA, no template or SA matches",
        ENOPROTOOPT => "ENOPROTOOPT, this kernel was built without it",
        EPROTONOSUPPORT => "EPROTONOSUPPORT, the protocol is not in this kernel or its module is not loaded",
        EOPNOTSUPP => "EOPNOTSUPP, this kernel does not support it",
        EAFNOSUPPORT => "EAFNOSUPPORT, the address family is not in this kernel or its module is not loaded",
        ENOBUFS => "ENOBUFS, the kernel has no buffer left",
        ETIMEDOUT => "ETIMEDOUT, no answer came",
        _ => "an error without a name here",
    }
}

pub(crate) const EPERM: i32 = 1;
pub(crate) const ENOENT: i32 = 2;
pub(crate) const ESRCH: i32 = 3;
pub(crate) const ENOMEM: i32 = 12;
pub(crate) const EBUSY: i32 = 16;
pub(crate) const EEXIST: i32 = 17;
pub(crate) const EINVAL: i32 = 22;
pub(crate) const ENOSYS: i32 = 38;
pub(crate) const ENODATA: i32 = 61;
pub(crate) const ENOPROTOOPT: i32 = 92;
pub(crate) const EPROTONOSUPPORT: i32 = 93;
pub(crate) const EOPNOTSUPP: i32 = 95;
pub(crate) const EAFNOSUPPORT: i32 = 97;
pub(crate) const ENOBUFS: i32 = 105;
pub(crate) const ETIMEDOUT: i32 = 110;
