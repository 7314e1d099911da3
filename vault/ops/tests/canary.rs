//! Before cards count, something sealed for the vault is opened with the key they gave.
//! A seed that is not the vault's must fail there, whatever else agrees.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::sync::Arc;

use keys::files::ReadKey;
use keys::{Generation, Seed};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use vault_format::envelope::RecordKind;
use vault_format::vault::CardSet;
use vault_format::{Hash, LocationId};
use vault_ops::OpsError;
use vault_ops::canary::{Cage, open_newest, reader_of, sing};
use vault_ops::claims::{cards_of, claims};
use vault_ops::location::Location;
use vault_ops::vault::Candidate;
use world::{Lab, random_bytes};

fn scratch(store: &Arc<InMemory>) -> Location {
    let store = Arc::clone(store) as Arc<dyn ObjectStore>;
    Location {
        id: LocationId::default(),
        name: "scratch".to_owned(),
        domain: 0,
        blank: false,
        store,
        versions: None,
        names: None,
    }
}

#[tokio::test]
async fn only_the_vaults_own_seed_opens_what_is_sealed_for_it() {
    let mut lab = Lab::new(61, (3, 5), 1, &[0, 1, 2, 3, 4]).await;
    let vault = lab.open().await.unwrap();
    let seed = &lab.keys.master.seed;
    let (generation, store) = (Generation::FIRST, Arc::new(InMemory::new()));
    let reader = reader_of(&vault, generation).unwrap();
    let cage = Cage { vault: vault.id, coding: vault.coding, reader: &reader };
    let sung = sing(&lab.world, &cage, (seed, generation), &scratch(&store)).await.unwrap();
    assert_eq!(sung.sealed, sung.opened);
    assert_ne!(sung.sealed, Hash([0; 32]));
    assert_eq!(sung.shards, (5, 3));
    assert!(scratch(&store).list("").await.unwrap().is_empty(), "the canary left something");

    let stranger = Seed::from_array([5; 32]);
    let refused = sing(&lab.world, &cage, (&stranger, generation), &scratch(&store)).await;
    assert!(matches!(refused, Err(OpsError::Key { .. })), "{refused:?}");
    assert!(matches!(reader_of(&vault, Generation(2)), Err(OpsError::Key { .. })));

    let read = || Arc::new(ReadKey::from_seed(seed, generation, vault.id));
    assert_eq!(open_newest(&vault, read()).await.unwrap(), None);
    let id = vault.id;
    lab.backup(&random_bytes(61, 90_000)).await.unwrap();
    let vault = lab.open().await.unwrap();
    let read = Arc::new(ReadKey::from_seed(&lab.keys.master.seed, generation, id));
    assert!(open_newest(&vault, read).await.unwrap().is_some());
    let wrong = Arc::new(ReadKey::from_seed(&stranger, generation, id));
    assert!(open_newest(&vault, wrong).await.is_err());
}

#[tokio::test]
async fn a_location_claims_only_whole_records() {
    let lab = Lab::new(62, (3, 5), 1, &[0, 1, 2, 3, 4]).await;
    let candidates: Vec<Candidate> = lab
        .stores
        .iter()
        .map(|(name, store)| Candidate {
            name: name.clone(),
            store: Ok(Arc::clone(store) as Arc<dyn ObjectStore>),
            versions: None,
            names: None,
        })
        .collect();
    let (found, silent) = claims(&candidates).await;
    assert!(silent.is_empty());
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].vault, lab.keys.public.vault);
    assert!(found[0].root == lab.keys.public.root.fingerprint());

    // A record whose bytes were changed is signed by nobody.
    let place = scratch(&Arc::new(InMemory::new()));
    let name = vault_format::names::vault(1);
    let vault = lab.open().await.unwrap();
    let mut bytes = vault.record_bytes.clone();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    place.create(&name, vec![bytes.into()]).await.unwrap();
    let store = Arc::clone(&place.store);
    let (found, _) =
        claims(&[Candidate { name: "liar".to_owned(), store: Ok(store), versions: None, names: None }]).await;
    assert!(found.is_empty());
}

#[tokio::test]
async fn a_record_that_overtook_another_hides_none_of_its_cards() {
    let lab = Lab::new(63, (3, 5), 1, &[0, 1, 2, 3, 4]).await;
    let root = lab.keys.master.seed.root_key(Generation::FIRST);
    let set = |number, card| CardSet { number, need: 1, cards: vec![Hash([card; 32])], created_ms: 0 };
    let vault = lab.open().await.unwrap();
    assert!(vault_ops::amend::add_card_set(&vault, &root, set(1, 1)).await.unwrap().is_empty());
    // Another ceremony that began from the same record and was killed after one location.
    let mut rival = vault.record.clone();
    (rival.epoch, rival.previous) = (vault.record.epoch + 1, vault.record_hash);
    rival.card_sets.push(set(1, 2));
    let bytes = keys::record::sign(RecordKind::Vault, vault.id, &vault_format::encode(&rival), &root);
    let place = scratch(&Arc::new(InMemory::new()));
    place.create(&vault_format::names::vault(rival.epoch), vec![bytes.into()]).await.unwrap();

    let mut vault = lab.open().await.unwrap();
    vault.locations.push(place);
    let known = cards_of(&vault).await;
    let mut cards: Vec<_> = known[0].sets.iter().map(|set| set.cards[0]).collect();
    cards.sort();
    assert_eq!((known.len(), cards), (1, vec![Hash([1; 32]), Hash([2; 32])]));

    // A location that takes nothing is owed the record, and it is said.
    let taken = lab.open().await.unwrap();
    let name = vault_format::names::vault(taken.record.epoch + 1);
    taken.locations[0].create(&name, vec![b"something else".to_vec().into()]).await.unwrap();
    let owed = vault_ops::amend::add_card_set(&taken, &root, set(2, 3)).await.unwrap();
    assert_eq!(owed.keys().collect::<Vec<_>>(), [&taken.locations[0].name]);
}
