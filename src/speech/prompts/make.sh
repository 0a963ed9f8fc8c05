#!/bin/sh
# Makes the prompts anew: their texts are in mod.rs beside this file. Needs flite (apt-get install flite).
# A new prompt needs an empty file first: : > NAME.ulaw
set -eu
cd "$(dirname "$0")/../../.."
cargo test -p dialtone --lib -- --ignored --exact speech::prompts::tests::make
