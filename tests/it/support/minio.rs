//! One private MinIO for the whole test process, on a free port, with a folder of its own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Name and secret of the only user.
const USER: &str = "lakemerge";

pub struct Minio {
    port: u16,
    folder: PathBuf,
    /// Reads from a pipe to this process; when that ends, however it ends, the pipe closes and MinIO dies.
    watchdog: Child,
}

/// Starts the server at the first call.
pub fn server() -> &'static Minio {
    static SERVER: OnceLock<Minio> = OnceLock::new();
    SERVER.get_or_init(start)
}

fn start() -> Minio {
    let binary = std::env::var_os("LAKEMERGE_MINIO").map_or_else(|| super::cache().join("bin/minio"), PathBuf::from);
    assert!(binary.is_file(), "no MinIO at {}: run ./test, which installs MinIO", binary.display());

    let folder = tempfile::Builder::new().prefix("lakemerge-minio-").tempdir().expect("no temporary folder").keep();
    for _attempt in 0..5 {
        // The port is free when it is chosen, and may be taken a moment later: then MinIO ends, and
        // another is tried.
        let mut minio = launch(&binary, &folder);
        if minio.answers_soon() {
            return minio;
        }
    }
    panic!("MinIO does not start; its output is in {}", folder.join("log").display());
}

fn launch(binary: &Path, folder: &Path) -> Minio {
    let listener = TcpListener::bind("127.0.0.1:0").expect("no free port");
    let port = listener.local_addr().expect("the port is known").port();
    drop(listener);
    let watchdog = Command::new("sh")
        .args(["-c", WATCHDOG, "watchdog"])
        .arg(binary)
        .arg(folder)
        .arg(format!("127.0.0.1:{port}"))
        .env("MINIO_ROOT_USER", USER)
        .env("MINIO_ROOT_PASSWORD", USER)
        .env("MINIO_BROWSER", "off")
        .env("MINIO_PROMETHEUS_AUTH_TYPE", "public")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh cannot be started");
    Minio { port, folder: folder.to_owned(), watchdog }
}

/// Ends MinIO and removes its folder when stdin closes; ends by itself, leaving the log, when MinIO does.
const WATCHDOG: &str = r#"
mkdir -p "$2/data"
exec 3<&0
"$1" server "$2/data" --quiet --address "$3" </dev/null >"$2/log" 2>&1 3<&- &
minio=$!
(cat <&3 >/dev/null; kill -KILL $minio; rm -rf "$2") &
exec 3<&-
wait $minio
"#;

impl Minio {
    fn answers_soon(&mut self) -> bool {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(30) {
            if self.answers() {
                return true;
            }
            if self.watchdog.try_wait().expect("the watchdog can be waited for").is_some() {
                return false;
            }
            sleep(Duration::from_millis(20));
        }
        false
    }

    fn answers(&self) -> bool {
        const REQUEST: &[u8] = b"GET /minio/health/live HTTP/1.0\r\nHost: localhost\r\n\r\n";
        let ask = || {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            stream.write_all(REQUEST)?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            std::io::Result::Ok(answer)
        };
        ask().is_ok_and(|answer| answer.split(' ').nth(1) == Some("200"))
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What a client of the server needs in its environment.
    pub fn env(&self) -> Vec<(String, String)> {
        [
            ("AWS_ENDPOINT_URL", self.endpoint().as_str()),
            ("AWS_ACCESS_KEY_ID", USER),
            ("AWS_SECRET_ACCESS_KEY", USER),
            ("AWS_REGION", "us-east-1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// A new, empty bucket (for MinIO, that is a folder).
    pub fn bucket(&self) -> String {
        let name = format!("test-{}", uuid::Uuid::new_v4().simple());
        std::fs::create_dir(self.folder.join("data").join(&name)).expect("the bucket cannot be created");
        name
    }

    pub fn client(&self, bucket: &str) -> object_store::aws::AmazonS3 {
        object_store::aws::AmazonS3Builder::new()
            .with_endpoint(self.endpoint())
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_access_key_id(USER)
            .with_secret_access_key(USER)
            .with_bucket_name(bucket)
            .build()
            .expect("the S3 client cannot be built")
    }
}
