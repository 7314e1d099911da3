//! Types that hold secrets can neither be printed, nor cloned, nor compared with `==`; and
//! those that hold the bytes wipe them. Checked when this file is compiled: each line has
//! two candidate implementations if the type has the trait, and then does not compile.

use keys::card::Card;
use keys::files::{JanitorKey, MasterSeed, OperatorKey, ReadGeneration, ReadKey, WriterKey};
use keys::first::FirstKeys;
use keys::hand::Hand;
use keys::host::HostKeys;
use keys::slip39::Share;
use keys::{
    ChunkerSeed, ContentHasher, DataKey, DedupKeys, DedupRoot, EncKey, IdKey, IndexKey, LocalSecret, Passphrase,
    RecipientPrivate, Secret, SecretBytes, SecretText, Seed, SigningKey,
};

macro_rules! never {
    ($($secret:ty),+ $(,)?) => { $(
        const _: () = {
            struct Debug;
            struct Display;
            struct Clone;
            struct Equal;
            struct Serialized;
            trait Neither<Which> {
                fn it_is() {}
            }
            impl<T: ?Sized> Neither<()> for T {}
            impl<T: ?Sized + std::fmt::Debug> Neither<Debug> for T {}
            impl<T: ?Sized + std::fmt::Display> Neither<Display> for T {}
            impl<T: std::clone::Clone> Neither<Clone> for T {}
            impl<T: ?Sized + PartialEq> Neither<Equal> for T {}
            impl<T: ?Sized + std::hash::Hash> Neither<Serialized> for T {}
            let _ = <$secret as Neither<_>>::it_is;
        };
    )+ };
}

never!(
    Secret<32>,
    SecretBytes,
    SecretText,
    Passphrase,
    Seed,
    RecipientPrivate,
    SigningKey,
    DataKey,
    EncKey,
    LocalSecret,
    ContentHasher,
    DedupRoot,
    DedupKeys,
    IdKey,
    ChunkerSeed,
    IndexKey,
    MasterSeed,
    ReadKey,
    ReadGeneration,
    OperatorKey,
    WriterKey,
    JanitorKey,
    FirstKeys,
    HostKeys,
    Card,
    Share,
    Hand,
);

#[test]
fn what_holds_bytes_wipes_them() {
    fn wipes<T: zeroize::ZeroizeOnDrop>() {}
    wipes::<Secret<32>>();
    wipes::<SecretBytes>();
    wipes::<SecretText>();
    // Their own crates wipe these, if the feature is on; this does not compile without.
    wipes::<ed25519_dalek::SigningKey>();
    wipes::<ml_dsa::SigningKey<ml_dsa::MlDsa65>>();
    wipes::<x_wing::DecapsulationKey>();
    wipes::<x25519_dalek::StaticSecret>();
}
