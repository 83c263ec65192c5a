//! The official Java client, through `tests/clients/java/Check.java`.

use tests::clients::Client;

#[test]
fn java_client() -> anyhow::Result<()> {
    Client::Java.check()
}
