//! Who the tenants are and what each may use.
