// Tests that end in each way in which Catch2's tests end.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>

#include <csignal>
#include <cstdlib>

TEST_CASE("pass") { REQUIRE(1 == 1); }

TEST_CASE("fail") {
  SECTION("one") { CHECK(1 == 2); }
  SECTION("two") {
    INFO("about it");
    REQUIRE_THROWS(1);
  }
  SECTION("three") { CHECK(true); }
}

TEST_CASE("throw") { throw std::runtime_error("no such map"); }

TEST_CASE("may fail", "[!mayfail]") { CHECK(false); }

TEST_CASE("lines") { FAIL("two\nlines"); }

TEST_CASE("dies") {
  if (getenv("DIE")) raise(SIGSEGV);
}
