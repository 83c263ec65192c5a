//! Whose a directory is, over starts of all kinds.

use std::io::IoSlice;

use base::disk::OpenOptions;
use record::NodeId;

use super::*;

#[tokio::test]
async fn the_identity_is_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let env = Env::real();
    let first = DataDir::open(&env, &path).await.unwrap();
    let identity = first.identity();
    drop(first);
    assert_eq!(DataDir::open(&env, &path).await.unwrap().identity(), identity);
}

#[tokio::test]
async fn no_flipped_bit_makes_it_another_node() {
    let dir = tempfile::tempdir().unwrap();
    let env = Env::real();
    let data_dir = DataDir::open(&env, dir.path()).await.unwrap();
    data_dir.set_cluster(77).await.unwrap();
    let identity = data_dir.identity();
    drop(data_dir);
    let path = dir.path().join("IDENTITY");
    let file = env.disk.open(&path, OpenOptions::read_write()).unwrap();
    let whole = file.read_at(0, 4_096).await.unwrap().to_vec();
    for (place, bit) in (0..whole.len()).flat_map(|place| (0..8).map(move |bit| (place, bit))) {
        let flipped = [whole[place] ^ 1 << bit];
        file.write_at(place as u64, &[IoSlice::new(&flipped)]).await.unwrap();
        match read_identity(&*env.disk, dir.path()).await {
            // The same number in capital letters.
            Ok(read) => assert_eq!(read, Some(identity), "bit {bit} of byte {place}"),
            Err(error) => {
                assert!(matches!(error, DataDirError::Identity { .. } | DataDirError::Format { .. }), "{error}");
            }
        }
        file.write_at(place as u64, &[IoSlice::new(&whole[place..=place])]).await.unwrap();
    }
    // As earlier versions wrote it: from the next start on it says that it is whole.
    let text = String::from_utf8(whole.clone()).unwrap();
    let before = text.split("crc32c").next().unwrap();
    file.set_len(0).unwrap();
    file.write_at(0, &[IoSlice::new(before.as_bytes())]).await.unwrap();
    assert_eq!(DataDir::open(&env, dir.path()).await.unwrap().identity(), identity);
    let file = env.disk.open(&path, OpenOptions::read()).unwrap();
    assert_eq!(file.read_at(0, 4_096).await.unwrap().to_vec(), whole);
}

#[tokio::test]
async fn a_node_that_joins_is_the_same_however_often_it_asks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let env = Env::real();
    let birth = Claim::take(&env, &path).await.unwrap().birth(&env).await.unwrap();
    let mut claim = Claim::take(&env, &path).await.unwrap();
    assert_eq!(claim.birth(&env).await.unwrap(), birth);
    let members = vec![Contact { node: NodeId(1), host: "::1".to_owned(), port: 9190 }];
    let data_dir = claim.joined(&env, NodeId(4), 99, members.clone()).await.unwrap();
    let identity = data_dir.identity();
    assert_eq!((identity.node_id, identity.cluster), (NodeId(4), Some(99)));
    drop(data_dir);
    let data_dir = DataDir::open(&env, &path).await.unwrap();
    assert_eq!(data_dir.identity(), identity);
    assert_eq!(data_dir.joining().await.unwrap(), Some(Joining { birth, addresses: Vec::new(), members }));
    data_dir.end_joining().unwrap();
    data_dir.end_joining().unwrap();
    assert_eq!(data_dir.joining().await.unwrap(), None);
    let members = vec![Contact { node: NodeId(3), host: "c".to_owned(), port: 9 }];
    data_dir.note_members(members.clone()).await.unwrap();
    assert_eq!(data_dir.joining().await.unwrap().unwrap().members, members, "also one that is a member already");
    data_dir.end_joining().unwrap();
    data_dir.set_cluster(99).await.unwrap();
    assert!(matches!(data_dir.set_cluster(98).await, Err(DataDirError::Cluster { known: 99, found: 98, .. })));
}

#[tokio::test]
async fn who_is_lost_is_known_until_the_cluster_knows_it() {
    let dir = tempfile::tempdir().unwrap();
    let env = Env::real();
    let lost = |done| LostNodes { nodes: [NodeId(1), NodeId(3)].into(), done };
    let data_dir = DataDir::open(&env, dir.path()).await.unwrap();
    for done in [false, true] {
        data_dir.note_lost(&lost(done)).await.unwrap();
    }
    drop(data_dir);
    let claim = Claim::take(&env, dir.path()).await.unwrap();
    assert_eq!(claim.lost(), Some(&lost(true)));
    let data_dir = claim.founded(&env).await.unwrap();
    let file = env.disk.open(&dir.path().join("LOST-NODES"), OpenOptions::read_write()).unwrap();
    file.write_at(0, &[IoSlice::new(b"garbage")]).await.unwrap();
    drop(data_dir);
    let error = Claim::take(&env, dir.path()).await.unwrap_err();
    assert!(matches!(error, DataDirError::LostNodes { .. }), "{error}");
    env.disk.remove(&dir.path().join("LOST-NODES")).unwrap();
    let data_dir = DataDir::open(&env, dir.path()).await.unwrap();
    data_dir.note_lost(&lost(true)).await.unwrap();
    data_dir.end_lost().unwrap();
    data_dir.end_lost().unwrap();
    // Those of a cluster that is given up are of no concern to the next one.
    data_dir.note_lost(&lost(true)).await.unwrap();
    data_dir.give_up(&[("10.0.0.1".to_owned(), 9190)]).await.unwrap();
    data_dir.empty(&env).await.unwrap();
    drop(data_dir);
    assert_eq!(Claim::take(&env, dir.path()).await.unwrap().lost(), None);
}

#[tokio::test]
async fn what_is_given_up_is_gone_and_the_node_is_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let env = Env::real();
    let old = DataDir::open(&env, dir.path()).await.unwrap();
    let file = old.checkpoint_dir(ShardId(3)).join("0001.base");
    env.disk.create_dir_all(file.parent().unwrap()).unwrap();
    env.disk.open(&file, OpenOptions::create_new()).unwrap();
    let addresses = vec![("10.0.0.1".to_owned(), 9190)];
    old.give_up(&addresses).await.unwrap();
    drop(old);
    let claim = Claim::take(&env, dir.path()).await.unwrap();
    assert!(claim.gives_up() && claim.identity().is_some(), "nothing is gone before somebody has looked");
    let old = claim.founded(&env).await.unwrap();
    assert!(env.disk.exists(&file));
    old.empty(&env).await.unwrap();
    drop(old);
    let mut claim = Claim::take(&env, dir.path()).await.unwrap();
    assert!(!claim.gives_up());
    assert_eq!(claim.identity(), None);
    assert_eq!(claim.joining().unwrap().addresses, addresses);
    let birth = claim.birth(&env).await.unwrap();
    assert!(!env.disk.exists(&dir.path().join("shards")) && !env.disk.exists(&dir.path().join("GIVING-UP")));
    drop(claim);
    assert_eq!(Claim::take(&env, dir.path()).await.unwrap().birth(&env).await.unwrap(), birth);
}

#[tokio::test]
async fn what_was_given_up_is_kept_or_goes_on_being_removed() {
    let dir = tempfile::tempdir().unwrap();
    let env = Env::real();
    let old = DataDir::open(&env, dir.path()).await.unwrap();
    let identity = old.identity();
    old.give_up(&[("10.0.0.1".to_owned(), 9190)]).await.unwrap();
    old.keep().unwrap();
    old.keep().unwrap();
    drop(old);
    let claim = Claim::take(&env, dir.path()).await.unwrap();
    assert_eq!((claim.gives_up(), claim.identity()), (false, Some(identity)));
    let old = claim.founded(&env).await.unwrap();
    let file = old.checkpoint_dir(ShardId(3)).join("0001.base");
    env.disk.create_dir_all(file.parent().unwrap()).unwrap();
    env.disk.open(&file, OpenOptions::create_new()).unwrap();
    old.give_up(&[("10.0.0.1".to_owned(), 9190)]).await.unwrap();
    drop(old);
    // It was interrupted after its first step.
    env.disk.remove(&dir.path().join("IDENTITY")).unwrap();
    let claim = Claim::take(&env, dir.path()).await.unwrap();
    assert!(!claim.gives_up() && claim.identity().is_none() && !env.disk.exists(&file));
}

#[tokio::test]
async fn the_cluster_is_added_to_an_identity_without_one() {
    let dir = tempfile::tempdir().unwrap();
    let env = Env::real();
    let first = DataDir::open(&env, dir.path()).await.unwrap();
    let identity = first.identity();
    assert_eq!(identity.cluster, None);
    first.set_cluster(5).await.unwrap();
    drop(first);
    let again = DataDir::open(&env, dir.path()).await.unwrap().identity();
    assert_eq!(again, Identity { cluster: Some(5), ..identity });
}

#[tokio::test]
async fn a_second_user_gets_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let env = Env::real();
    let _first = DataDir::open(&env, dir.path()).await.unwrap();
    let error = DataDir::open(&env, dir.path()).await.unwrap_err();
    assert!(matches!(error, DataDirError::InUse { .. }));
    assert!(error.to_string().contains("in use by another process"), "{error}");
}

#[tokio::test]
async fn another_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let env = Env::real();
    drop(DataDir::open(&env, dir.path()).await.unwrap());
    let file = env.disk.open(&dir.path().join("IDENTITY"), OpenOptions::read_write()).unwrap();
    let text = "RosettaMQ data directory\nformat 2\n";
    file.write_at(0, &[IoSlice::new(text.as_bytes())]).await.unwrap();
    let error = DataDir::open(&env, dir.path()).await.unwrap_err();
    assert!(matches!(error, DataDirError::Format { found: 2, .. }), "{error}");
}

#[tokio::test]
async fn a_directory_of_someone_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let env = Env::real();
    env.disk.open(&dir.path().join("thesis.tex"), OpenOptions::create_new()).unwrap();
    let error = DataDir::open(&env, dir.path()).await.unwrap_err();
    assert!(matches!(error, DataDirError::Foreign { .. }), "{error}");
    assert!(!env.disk.exists(&dir.path().join("LOCK")), "nothing is left in it");
}
