"""What every part of Cumulet stands on: errors, programs, files, documents, deadlines."""
