//! Argo CD with the rights that its own manifests give it: controller, repository server and API server, and a Redis in memory.

use std::net::TcpStream;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::program::Program;
use crate::support::{Address, ControlPlane, Ran, command, run};

/// Its namespace.
const NAMESPACE: &str = "argocd";

/// Its programs, which end with it.
pub struct ArgoCd {
    api: Address,
    home: PathBuf,
    _programs: Vec<Program>,
}

impl ArgoCd {
    /// Starts Argo CD.
    pub fn start(plane: &ControlPlane) -> ArgoCd {
        plane.create_namespace_with(NAMESPACE, &json!({}));
        let bin = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/real-tools/bin");
        let manifests = bin.join("argocd.yaml").display().to_string();
        let apply = ["apply", "--server-side", "-n", NAMESPACE, "-f", &manifests];
        plane.kubectl(apply).ok();
        // It runs here.
        let programs = "deployments,statefulsets";
        let delete = ["delete", programs, "--all", "-n", NAMESPACE];
        plane.kubectl(delete).ok();
        let wait = ["wait", "--for=condition=Established", "crd", "--all"];
        plane.kubectl(wait).ok();

        let home = plane.folder.path().join(NAMESPACE);
        std::fs::create_dir(&home).unwrap();
        let redis = Address::free();
        let listens = || TcpStream::connect(redis.to_string()).is_ok();
        let args = [format!("-address={redis}")];
        let redis_server = Program::start("miniredis", &plane.folder, args).until(listens);

        let (repositories, api) = (Address::free(), Address::free());
        let redis = format!("--redis={redis}");
        let ask_repositories = format!("--repo-server={repositories}");
        let start = |name: &str, health: Address, args: &[&str]| {
            let kubeconfig = plane.kubeconfig_of(NAMESPACE, name);
            let mut program = command("argocd", &home);
            program
                .args(["--logformat=text", &redis])
                .args(args)
                .env("ARGOCD_BINARY_NAME", name)
                .env("ARGOCD_APP_CONF_PATH", &home)
                .env("ARGOCD_ASK_PASS_SOCK", home.join("ask-pass.sock"))
                .env("ARGOCD_GPG_ENABLED", "false")
                // Its own cluster is that of the kubeconfig.
                .env("ARGOCD_FAKE_IN_CLUSTER", "true")
                .env("KUBECONFIG", kubeconfig)
                .env("TMPDIR", &home);
            let log = plane.folder.path().join(format!("{name}.log"));
            let program = Program::start_logging_to(log, name, &mut program);
            program.until(|| health.http_get("/healthz").is_some())
        };
        let metrics = Address::free();
        let repository_server = start(
            "argocd-repo-server",
            metrics,
            &[
                "--address=127.0.0.1",
                &format!("--port={}", repositories.port()),
                "--metrics-address=127.0.0.1",
                &format!("--metrics-port={}", metrics.port()),
                "--disable-tls",
            ],
        );
        // It makes the project `default`, and settings that the controller reads.
        let api_server = start(
            "argocd-server",
            api,
            &[
                "--namespace=argocd",
                "--address=127.0.0.1",
                &format!("--port={}", api.port()),
                &format!("--metrics-port={}", Address::free().port()),
                "--insecure",
                "--disable-auth",
                &ask_repositories,
                "--repo-server-plaintext",
            ],
        );
        let metrics = Address::free();
        let controller = start(
            "argocd-application-controller",
            metrics,
            &[
                "--namespace=argocd",
                // It compares more often than every two minutes.
                "--app-resync=5",
                "--app-resync-jitter=0",
                // On, unless an Application turns it off.
                "--server-side-diff-enabled",
                &format!("--metrics-port={}", metrics.port()),
                &ask_repositories,
                "--repo-server-plaintext",
            ],
        );
        ArgoCd {
            api,
            home,
            _programs: vec![controller, api_server, repository_server, redis_server],
        }
    }

    /// Runs a command line of a page, such as `argocd app sync payments`.
    pub fn run(&self, line: &str) -> Ran {
        let mut words = line.split(' ');
        let mut argocd = command(words.next().unwrap(), &self.home);
        argocd
            .args(words)
            .env("ARGOCD_SERVER", self.api.to_string())
            .env("ARGOCD_OPTS", "--plaintext");
        run(&mut argocd, b"")
    }
}
