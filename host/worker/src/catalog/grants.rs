//! Capabilities of tasks beyond their sandboxes: those that their manifest asks for and this worker allows.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use petiole_modules::{Manifest, ModuleName};
use petiole_permits::{Capabilities, KeyValue, Policy, Refused, Secret};
use petiole_runtime::{Folder, Granted, Interfaces, KeyValueSpace};

use crate::catalog::settings_error::SettingsError;

/// The capabilities that a worker grants, and to whom. The default is nothing, to nobody.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    /// The grants of modules.
    pub policy: Policy,
    /// The values of the names in it.
    pub values: Values,
}

/// The values that names in a policy and in manifests stand for on this worker.
#[derive(Debug, Clone, Default)]
pub struct Values {
    /// Values by name.
    pub env: BTreeMap<String, String>,
    /// Secret values by name.
    pub secrets: BTreeMap<String, Secret>,
    /// Folders by name.
    pub folders: BTreeMap<String, PathBuf>,
    /// The storage that modules share.
    pub keyvalue: Option<Arc<dyn KeyValue>>,
}

/// The capabilities of a task.
#[derive(Debug, Clone)]
pub struct TaskGrants {
    /// Those that its manifest asks for.
    pub asked: Capabilities,
    /// Those of them that it is given.
    pub given: Capabilities,
    /// Those of them that it is not.
    pub refused: Vec<Refused>,
    /// Those that it is given, with their values.
    pub granted: Arc<Granted>,
}

impl Grants {
    /// Decides what a task is given.
    ///
    /// # Errors
    /// When what it is to be given has no value here.
    pub fn decide(
        &self,
        module: &ModuleName,
        task: &str,
        asked: &Capabilities,
    ) -> Result<TaskGrants, SettingsError> {
        let allowed = self.policy.for_module(module.as_str());
        let (given, refused) = allowed.intersect(asked);
        let granted = Granted {
            networks: allowed.networks,
            ..self.values.granted(module, task, &given)?
        };
        Ok(TaskGrants {
            asked: asked.clone(),
            given,
            refused,
            granted: Arc::new(granted),
        })
    }

    /// The interfaces that a module's tasks are given, together: a component is linked as a whole.
    pub fn interfaces(&self, module: &ModuleName, manifest: &Manifest) -> Interfaces {
        let allowed = self.policy.for_module(module.as_str());
        let own = manifest
            .tasks
            .values()
            .filter_map(|task| task.capabilities.as_ref());
        let given = own
            .chain([&manifest.capabilities])
            .map(|asked| allowed.intersect(asked).0);
        given.fold(Interfaces::default(), |all, given| Interfaces {
            http: all.http || !given.http.is_empty(),
            keyvalue: all.keyvalue || given.keyvalue,
        })
    }
}

impl Values {
    fn granted(
        &self,
        module: &ModuleName,
        task: &str,
        given: &Capabilities,
    ) -> Result<Granted, SettingsError> {
        let missing = |kind: &'static str, name: &str, table: &'static str| {
            let (task, what) = (task.to_owned(), format!("{kind} {name}"));
            SettingsError::NoValue { task, what, table }
        };
        let env = given.env.iter().map(|name| {
            let value = self.env.get(name);
            let value = value.ok_or_else(|| missing("env", name, "[env]"))?;
            Ok((name.clone(), value.clone()))
        });
        let secrets = given.secrets.iter().map(|name| {
            let value = self.secrets.get(name);
            let value = value.ok_or_else(|| missing("secret", name, "[secrets]"))?;
            Ok((name.clone(), value.clone()))
        });
        let folders = given.folders.iter().map(|(name, access)| {
            let host = self.folders.get(name);
            let host = host.ok_or_else(|| missing("folder", name, "[folders]"))?;
            Ok(Folder {
                host: host.clone(),
                guest: name.clone(),
                access: *access,
            })
        });
        let keyvalue = given.keyvalue.then(|| {
            let store = self.keyvalue.as_ref();
            let store = store.ok_or_else(|| missing("storage", "keyvalue", "keyvalue"))?;
            Ok(KeyValueSpace {
                store: Arc::clone(store),
                prefix: format!("petiole:kv:{module}:"),
            })
        });
        Ok(Granted {
            env: env.collect::<Result<_, SettingsError>>()?,
            secrets: secrets.collect::<Result<_, SettingsError>>()?,
            folders: folders.collect::<Result<_, SettingsError>>()?,
            keyvalue: keyvalue.transpose()?,
            http: given.http.clone(),
            tcp: given.tcp.clone(),
            networks: Vec::new(),
            temp: given.temp.map(|size| size.bytes()),
            clocks: given.clocks,
            random: given.random,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use petiole_permits::{Access, Grant};

    use super::*;

    fn module() -> ModuleName {
        "shop.orders".parse().unwrap()
    }

    /// The capabilities of a manifest in TOML.
    fn manifest(toml: &str) -> Manifest {
        Manifest::from_toml(toml).unwrap()
    }

    /// A worker that allows the modules of the shop what a manifest may ask for.
    fn worker(allowed: &str, values: Values) -> Grants {
        let capabilities = manifest(&format!("[capabilities]\n{allowed}")).capabilities;
        let grant = Grant {
            capabilities,
            networks: vec!["10.0.0.0/8".parse().unwrap()],
        };
        Grants {
            policy: Policy::new(vec![("shop.*".to_owned(), grant)]),
            values,
        }
    }

    fn values() -> Values {
        Values {
            env: [("GREETING".to_owned(), "hello".to_owned())].into(),
            secrets: [("DATABASE_URL".to_owned(), Secret::from("db://x"))].into(),
            folders: [("data".to_owned(), PathBuf::from("/srv/data"))].into(),
            keyvalue: None,
        }
    }

    const ALL: &str = r#"
        env = ["GREETING", "REGION"]
        secrets = ["DATABASE_URL"]
        http = ["https://api.example.com"]
        tcp = ["db.example.com:5432"]
        keyvalue = true
        folders = { data = "read-only" }
        temp = "1MiB"
    "#;

    fn decide(grants: &Grants, asked: &str) -> Result<TaskGrants, SettingsError> {
        let manifest = manifest(&format!("[capabilities]\n{asked}"));
        grants.decide(&module(), "shop.orders.run", &manifest.capabilities)
    }

    #[test]
    fn a_task_is_given_what_it_asks_for_and_may_have() {
        let asked = r#"
            env = ["GREETING", "PASSWORD"]
            secrets = ["DATABASE_URL"]
            http = ["https://api.example.com", "http://169.254.169.254"]
            folders = { data = "read-write", logs = "read-only" }
            temp = "2MiB"
            random = false
        "#;
        let task = decide(&worker(ALL, values()), asked).unwrap();
        let granted = &task.granted;
        assert_eq!(granted.env, [("GREETING".to_owned(), "hello".to_owned())]);
        assert_eq!(granted.secrets.first().unwrap().1.expose(), "db://x");
        assert_eq!((granted.http.len(), granted.tcp.len()), (1, 0));
        assert_eq!(granted.networks.len(), 1);
        let folder = granted.folders.first().unwrap();
        assert_eq!(
            (folder.guest.as_str(), folder.access),
            ("data", Access::ReadOnly)
        );
        assert_eq!(granted.temp, Some(1 << 20));
        assert!(granted.clocks && !granted.random && granted.keyvalue.is_none());
        let refused: Vec<_> = task.refused.iter().map(ToString::to_string).collect();
        let expected = [
            "env PASSWORD",
            "http http://169.254.169.254",
            "folder data read-write",
            "folder logs read-only",
            "temp 2MiB (allowed: 1MiB)",
        ];
        assert_eq!(refused, expected);
    }

    #[test]
    fn nothing_is_given_where_nothing_is_asked_for_or_allowed() {
        let task = decide(&worker(ALL, values()), "").unwrap();
        assert!(task.granted.env.is_empty() && task.granted.secrets.is_empty());
        assert!(task.granted.http.is_empty() && task.refused.is_empty());
        let task = decide(&Grants::default(), ALL).unwrap();
        assert_eq!(task.given, Capabilities::default());
        assert_eq!(task.refused.len(), 8);
    }

    #[test]
    fn what_is_allowed_and_has_no_value_is_refused_at_upload() {
        let mut without = values();
        without.secrets.clear();
        without.folders.clear();
        let grants = worker(ALL, without);
        let table = [
            ("env = ['REGION']", "env REGION", "[env]"),
            (
                "secrets = ['DATABASE_URL']",
                "secret DATABASE_URL",
                "[secrets]",
            ),
            (
                "folders = { data = 'read-only' }",
                "folder data",
                "[folders]",
            ),
            ("keyvalue = true", "storage keyvalue", "keyvalue"),
        ];
        for (asked, what, table) in table {
            let error = decide(&grants, asked).unwrap_err();
            let expected = format!(
                "task shop.orders.run is granted {what}, which this worker has no value for: \
                 set it under {table} in its configuration"
            );
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn a_component_is_linked_with_what_any_of_its_tasks_is_given() {
        let grants = worker(
            "http = ['https://api.example.com']\nkeyvalue = true",
            values(),
        );
        let none = manifest("");
        assert_eq!(grants.interfaces(&module(), &none), Interfaces::default());
        let one = manifest("[tasks.fetch.capabilities]\nhttp = ['https://api.example.com']");
        let interfaces = grants.interfaces(&module(), &one);
        assert!(interfaces.http && !interfaces.keyvalue);
        let other = manifest("[capabilities]\nkeyvalue = true\nhttp = ['https://evil.example']");
        let interfaces = grants.interfaces(&module(), &other);
        assert!(!interfaces.http && interfaces.keyvalue);
        let stranger: ModuleName = "other".parse().unwrap();
        assert_eq!(grants.interfaces(&stranger, &one), Interfaces::default());
    }

    #[test]
    fn no_secret_is_shown() {
        let task = decide(&worker(ALL, values()), "secrets = ['DATABASE_URL']").unwrap();
        assert!(!format!("{:?} {:?}", values(), task).contains("db://x"));
    }
}
