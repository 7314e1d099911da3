//! `write-seeds FOLDER`: the seeds of every target as files, and the targets' names on
//! standard output.

fn main() -> std::io::Result<()> {
    let folder = std::path::PathBuf::from(std::env::args_os().nth(1).expect("a folder to write to"));
    for target in fuzz_targets::targets() {
        let corpus = folder.join(target.name);
        std::fs::create_dir_all(&corpus)?;
        for (at, seed) in fuzz_targets::seeds_of(target.name).iter().enumerate() {
            std::fs::write(corpus.join(format!("seed-{at:04}")), seed)?;
        }
        println!("{}", target.name);
    }
    Ok(())
}
