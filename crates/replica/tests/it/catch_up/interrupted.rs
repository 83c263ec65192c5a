//! Installs that end at any request and go on with another donor.

use base::time::{Duration, timeout};
use replica::InstallError;

use super::donors::{Direct, ENTRIES, End, FILE};
use super::{assert_same, fill, pull, real};

/// Whoever asks again lets go of what it asked for before.
const PULLER: u64 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_install_goes_on_with_another_donor_wherever_it_was_interrupted() {
    let (_dir, cluster) = real();
    let first = cluster.start(1).await;
    fill(&first).await;
    let second = cluster.install(2, &first.replica).await;
    let whole = {
        let files = cluster.files(100).await.expect("files");
        let donor = Direct::new(&first.replica);
        pull(&files, PULLER, &donor).await.expect("installed");
        (donor.asked(), donor.bytes(ENTRIES), donor.bytes(FILE))
    };
    assert!(whole.0 >= 6, "begin, files, entries, checkpoint, end: {whole:?}");
    // The end of all is not waited for: it may go wrong.
    for at in 0..whole.0 - 1 {
        for hangs in [false, true] {
            let node = 200 + 2 * at as u64 + u64::from(hangs);
            let files = cluster.files(node).await.expect("files");
            let end = if hangs { End::Hangs(at) } else { End::Fails(at) };
            let cut = Direct::ending(&first.replica, end);
            match timeout(if hangs { Duration::from_millis(500) } else { super::WAIT_MAX }, pull(&files, PULLER, &cut))
                .await
            {
                Ok(ended) => assert!(matches!(ended, Err(InstallError::Donor(_))), "at {at}: {ended:?}"),
                Err(_) => assert!(hangs, "at {at}"),
            }
            assert!(files.install_parts().marker.exists(), "at {at}");
            // As after a start.
            let files = if at % 2 == 0 {
                files.log.close().await;
                cluster.files(node).await.expect("files")
            } else {
                files
            };
            assert!(files.install_parts().marker.exists(), "at {at}");
            let rest = Direct::new(&second.replica);
            pull(&files, PULLER, &rest).await.expect("installed");
            assert!(!files.install_parts().marker.exists());
            let (entries, file) = (cut.bytes(ENTRIES) + rest.bytes(ENTRIES), cut.bytes(FILE) + rest.bytes(FILE));
            // Each answer has a few bytes besides what it carries.
            assert!(entries <= whole.1 + 200, "at {at}: entries were pulled twice: {entries}, {}", whole.1);
            assert!(file <= whole.2 + 200, "at {at}: files were pulled twice: {file}, {}", whole.2);
            let node = cluster.start_on(node, files).await.expect("started");
            assert_same(&first, &node).await;
            node.stop().await;
        }
    }
}
