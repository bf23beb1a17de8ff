//! Images with many layers and odd ones.

use harness::{Engine, fixtures, require};
use hello_image::{Entry, Image};

/// Busybox with these layers on top.
fn image_of(layers: &[&[Entry<'_>]]) -> Image {
    layers.iter().fold(fixtures::busybox_image(), |image, layer| image.layer(layer).unwrap())
}

#[test]
fn an_image_of_two_hundred_layers_runs() {
    require!(crate::available());
    let engine = Engine::start();
    let contents: Vec<String> = (0..200).map(|number| format!("{number}\n")).collect();
    let names: Vec<String> = (0..200).map(|number| format!("layer-{number}")).collect();
    let layers: Vec<[Entry<'_>; 2]> = contents
        .iter()
        .zip(&names)
        .map(|(content, name)| {
            [Entry::File(name, 0o644, content.as_bytes()), Entry::File("newest", 0o644, content.as_bytes())]
        })
        .collect();
    let image = image_of(&layers.iter().map(<[_; 2]>::as_slice).collect::<Vec<_>>());
    engine.load(&image.archive(&["many:1"]).unwrap());
    let script = "ls / | grep -c layer-; cat /newest; echo changed > /layer-7; cat /layer-7";
    let run = engine.docker(["run", "--rm", "many:1", "sh", "-c", script]).success().stdout();
    assert_eq!(run, "200\n199\nchanged\n");
    assert_eq!(engine.inspect("many:1")["RootFS"]["Layers"].as_array().unwrap().len(), 201);
}

#[test]
fn an_opaque_root_hides_every_lower_layer() {
    require!(crate::available());
    let engine = Engine::start();
    let busybox = std::fs::read("/bin/busybox").unwrap();
    let image = image_of(&[
        &[Entry::File("hidden", 0o644, b"")],
        &[
            Entry::File(".wh..wh..opq", 0, b""),
            Entry::Directory("bin", 0o755),
            Entry::File("bin/busybox", 0o755, &busybox),
        ],
        &[Entry::File("above", 0o644, b"")],
    ]);
    engine.load(&image.archive(&["opaque:1"]).unwrap());
    let run =
        engine.docker(["run", "--rm", "opaque:1", "/bin/busybox", "ls", "/", "/bin"]).success().stdout();
    let seen: Vec<&str> = run.lines().collect();
    assert!(seen.contains(&"above") && seen.contains(&"busybox"), "{run}");
    for hidden in ["hidden", "var", "home", "sh"] {
        assert!(!seen.contains(&hidden), "{hidden}: {run}");
    }
}

#[test]
fn a_committed_container_is_its_changes_exactly() {
    require!(crate::available());
    let engine = crate::engine_with_busybox();
    let make =
        "rm /etc/group; rm -r /var/www; mkdir /var/www; echo new > /var/www/new; ln /etc/passwd /etc/linked;
        mkfifo /pipe; truncate -s 3G /sparse; echo x > \"$(printf '/odd\\377name')\"; chown 1000:2000 /pipe";
    let _ = engine.docker(["run", "--name", "made", "busybox", "sh", "-c", make]).success();
    let _ = engine.docker(["commit", "made", "made:1"]).success();
    let look = "ls /etc/group /var/www; stat -c '%a %u:%g %h %s' /etc/linked /pipe /sparse; printf %s /odd* | od -An -tx1";
    let run = engine.docker(["run", "--rm", "made:1", "sh", "-c", look]);
    assert!(run.stderr().contains("/etc/group: No such file"), "{run}");
    let text = run.stdout();
    assert!(text.contains("/var/www:\nnew\n"), "{text}");
    assert!(text.contains("644 0:0 2 "), "{text}");
    assert!(text.contains("644 1000:2000 1 0\n") && text.contains(" 1 3221225472\n"), "{text}");
    assert!(text.contains("6f 64 64 ff 6e 61 6d 65"), "{text}");
}
