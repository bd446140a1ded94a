//! The targets of all links exist, and the book's links stay within the book.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::{book, pages, prose, root, text_of};

/// Targets of links and pictures, less those on the web.
fn links(page: &str) -> Vec<String> {
    let markdown = prose(&text_of(page)).replace('\n', " ");
    let targets = markdown.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.starts_with("https://")).map(str::to_owned).collect()
}

/// Ids of a page's headings, as GitHub and mdBook make them.
fn anchors(page: &str) -> BTreeSet<String> {
    let markdown = prose(&text_of(page));
    let headings = markdown.lines().filter(|line| line.starts_with('#'));
    let mut found = BTreeSet::new();
    for heading in headings {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept: String = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect();
        // A second one of the same name would get a number, which nobody wants to write.
        assert!(found.insert(kept.replace(' ', "-")), "{page}: two headings '{text}'");
    }
    found
}

/// A path relative to the repository, `..` resolved.
fn resolve(page: &str, target: &str) -> String {
    let mut resolved = PathBuf::new();
    for part in Path::new(page).parent().expect("a folder").join(target).components() {
        match part {
            Component::ParentDir => assert!(resolved.pop(), "{page}: {target} is outside of the repository"),
            other => resolved.push(other),
        }
    }
    resolved.to_str().expect("UTF-8").to_owned()
}

#[test]
fn links_and_their_anchors_lead_somewhere() {
    let mut count = 0;
    for page in pages().into_iter().chain(["CHANGELOG.md".to_owned()]) {
        for link in links(&page) {
            let (file, anchor) =
                link.split_once('#').map_or((&*link, None), |(file, anchor)| (file, Some(anchor)));
            let file = if file.is_empty() { page.clone() } else { resolve(&page, file) };
            assert!(root().join(&file).exists(), "{page}: no file {link}");
            if let Some(anchor) = anchor {
                assert!(anchors(&file).contains(anchor), "{page}: no heading {link}");
            }
            count += 1;
        }
    }
    assert!(count > 60, "only {count} found");
}

/// A book is only what lies in its folder: a link out of it would be dead there.
#[test]
fn the_book_links_to_its_own_pages() {
    for page in book() {
        for link in links(&page) {
            let file = resolve(&page, link.split('#').next().expect("a path"));
            assert!(link.starts_with('#') || file.starts_with("docs/"), "{page}: {link}");
        }
    }
}

#[test]
fn the_book_lists_every_page_once() {
    let listed: Vec<String> = links("docs/SUMMARY.md").iter().map(|link| format!("docs/{link}")).collect();
    let mut sorted = listed.clone();
    sorted.sort();
    let pages: Vec<String> = book().into_iter().filter(|page| page != "docs/SUMMARY.md").collect();
    assert_eq!(sorted, pages);
    // Their headings are the book's.
    let summary = text_of("docs/SUMMARY.md");
    for page in listed {
        let text = text_of(&page);
        let title = text.lines().next().and_then(|line| line.strip_prefix("# ")).expect("a title");
        assert!(summary.contains(&format!("[{title}](")), "{page}: {title}");
    }
}

#[test]
fn the_readme_links_to_every_page_of_the_book() {
    let linked: BTreeSet<String> = links("README.md").into_iter().collect();
    for page in book() {
        assert!(page == "docs/SUMMARY.md" || linked.contains(&page), "{page} is not linked");
    }
}
