//! Properties of all commands, and of all records that are not commands.

mod audiences;
mod content;
mod schemas;
mod strategies;
mod verdicts;
