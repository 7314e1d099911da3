//! A part of a pack whose shard is away: right, and at the price of a part.
#![allow(clippy::unwrap_used)]

mod world;

use std::sync::Arc;

use backends::{Meter, Metered};
use object_store::ObjectStore;
use vault_ops::fetch::{Fetcher, Trust, list_shards};
use world::{Lab, below, random_bytes, rng};

async fn fetcher(lab: &Lab, meter: &Arc<Meter>) -> Fetcher {
    let metered = |_, store| -> Arc<dyn ObjectStore> { Arc::new(Metered::new(store, Arc::clone(meter))) };
    let vault = lab.open_through(metered).await.unwrap();
    let holdings = list_shards(&vault, &vault.writer_ids()).await;
    Fetcher::new(vault.world.clone(), holdings, Trust::Signed(vault.writers.clone()))
}

#[tokio::test]
async fn parts_are_right_and_cheap_whichever_shards_are_away() {
    println!("seed 81");
    let mut lab = Lab::new(81, (3, 5), 1, &[0, 1, 2, 3, 4]).await;
    lab.backup(&random_bytes(82, 3_000_000)).await.unwrap();
    let meter = Arc::default();
    let whole = fetcher(&lab, &meter).await;
    let pack = *whole.holdings.packs.keys().max_by_key(|pack| whole.holdings.packs[*pack][0].bytes).unwrap();
    let (_, body) = whole.body(pack).await.unwrap();
    let mut rng = rng(83);
    for away in [vec![], vec![0], vec![2], vec![0, 1], vec![1, 4], vec![3, 4]] {
        lab.down.clone_from(&away);
        let fetcher = fetcher(&lab, &meter).await;
        fetcher.header(pack).await.unwrap();
        for _ in 0..20 {
            let start = below(&mut rng, body.len() - 1);
            let end = (start + 1 + below(&mut rng, 100_000)).min(body.len());
            let before = meter.counts().bytes_down;
            let part = fetcher.body_range(pack, start as u64..end as u64).await.unwrap();
            assert!(part == body[start..end], "{start}..{end} without {away:?}");
            let read = meter.counts().bytes_down - before;
            assert!(read < body.len() as u64 / 2, "{read} bytes for {start}..{end} without {away:?}");
        }
    }
    lab.down = vec![0, 1, 2];
    let error = fetcher(&lab, &meter).await.body_range(pack, 0..10).await.unwrap_err();
    assert!(error.to_string().contains("bring back"), "{error}");
}
