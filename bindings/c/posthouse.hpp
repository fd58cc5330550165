/*
 * posthouse.hpp: handles of posthouse.h that end themselves, for C++11 and later.
 *
 * Each is a std::unique_ptr with the matching free or close, so a handle has one owner and no cost. Everything else is posthouse.h
 * as it stands. Out parameters:
 *
 *     ph::engine engine;
 *     ph::error err;
 *     if (ph_engine_open("mail", nullptr, ph::out(engine), &err) != PH_OK) std::cerr << err.message;
 */
#ifndef POSTHOUSE_HPP
#define POSTHOUSE_HPP

#include <memory>
#include <string>

#include "posthouse.h"

namespace ph {

namespace detail {

template <class Handle, void (*End)(Handle *)>
struct end {
    void operator()(Handle *handle) const noexcept { End(handle); }
};

inline void close_engine(ph_engine *engine) noexcept { ph_engine_close(engine, nullptr); }

template <class Owner>
class out_of {
public:
    out_of(Owner &owner) noexcept : owner_(owner), raw_(nullptr) {}
    out_of(const out_of &) = delete;
    out_of &operator=(const out_of &) = delete;
    ~out_of() { owner_.reset(raw_); }
    operator typename Owner::pointer *() noexcept { return &raw_; }

private:
    Owner &owner_;
    typename Owner::pointer raw_;
};

} // namespace detail

template <class Handle, void (*End)(Handle *)>
using handle = std::unique_ptr<Handle, detail::end<Handle, End>>;

/* Closing an engine that cannot write any more is silent here; call ph_engine_close(engine.release(), &err) to know. */
using engine = handle<ph_engine, detail::close_engine>;
using account_cursor = handle<ph_account_cursor, ph_account_free>;
using alias_cursor = handle<ph_alias_cursor, ph_alias_free>;
using check = handle<ph_check, ph_check_free>;
using listener_cursor = handle<ph_listener_cursor, ph_listener_free>;
using lockout_cursor = handle<ph_lockout_cursor, ph_lockout_free>;
using mailbox_cursor = handle<ph_mailbox_cursor, ph_mailbox_free>;
using message = handle<ph_message, ph_message_close>;
using message_cursor = handle<ph_message_cursor, ph_message_free>;
using pop3_server = handle<ph_pop3_server, ph_pop3_server_free>;
using queue_cursor = handle<ph_queue_cursor, ph_queue_free>;
using smtp_client = handle<ph_smtp_client, ph_smtp_client_free>;
using smtp_server = handle<ph_smtp_server, ph_smtp_server_free>;

/* Lets a constructor of posthouse.h fill an owner. The owner has the handle at the end of the full expression. */
template <class Owner>
detail::out_of<Owner> out(Owner &owner) noexcept
{
    return {owner};
}

/* A ph_error that begins as it must. */
struct error : ph_error {
    error() noexcept : ph_error(start()) {}

private:
    static ph_error start() noexcept
    {
        ph_error begun = PH_ERROR_INIT;
        return begun;
    }
};

/* A view of a string, which must outlive it. */
inline ph_bytes view(const std::string &text) noexcept
{
    ph_bytes made = {reinterpret_cast<const uint8_t *>(text.data()), text.size()};
    return made;
}

/* A copy of a view. */
inline std::string copy(ph_bytes view)
{
    return std::string(reinterpret_cast<const char *>(view.data), view.len);
}

} // namespace ph

#endif /* POSTHOUSE_HPP */
