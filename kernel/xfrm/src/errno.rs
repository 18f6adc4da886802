//! Error numbers in words.

/// The symbolic name and the meaning of an errno value, as IPsec requests meet it.
pub(crate) const fn in_words(errno: i32) -> &'static str {
    match errno {
        EPERM => "EPERM, not permitted: CAP_NET_ADMIN is missing",
        ENOENT => "ENOENT, there is no such policy, algorithm or template",
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
        _ => "an error without a name here",
    }
}

pub(crate) const EPERM: i32 = 1;
pub(crate) const ENOENT: i32 = 2;
pub(crate) const ESRCH: i32 = 3;
pub(crate) const EINTR: i32 = 4;
pub(crate) const EAGAIN: i32 = 11;
pub(crate) const ENOMEM: i32 = 12;
pub(crate) const EACCES: i32 = 13;
pub(crate) const EBUSY: i32 = 16;
pub(crate) const EEXIST: i32 = 17;
pub(crate) const EINVAL: i32 = 22;
pub(crate) const ERANGE: i32 = 34;
pub(crate) const ENOSYS: i32 = 38;
pub(crate) const ENODATA: i32 = 61;
pub(crate) const ENOPROTOOPT: i32 = 92;
pub(crate) const EPROTONOSUPPORT: i32 = 93;
pub(crate) const EOPNOTSUPP: i32 = 95;
pub(crate) const EAFNOSUPPORT: i32 = 97;
pub(crate) const ENOBUFS: i32 = 105;
pub(crate) const ETIMEDOUT: i32 = 110;
