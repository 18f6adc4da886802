//! Error numbers of Linux in words.

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
