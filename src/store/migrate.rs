//! Migrations: the steps that lead from an older file to the present schema.
